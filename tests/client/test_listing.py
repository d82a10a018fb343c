import re
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client

from sojourn.client.listing import CreatedRange, condition, list_workflows, quote
from sojourn.types.described import closed_at, is_open
from sojourn.types.error import InvalidRequestError
from sojourn.types.name import CREATED_ATTRIBUTE, STATUS_ATTRIBUTE, USER_ATTRIBUTE

UNUSED = cast(Client, None)


def test_condition_wants_every_attribute() -> None:
    query = condition({"WorkflowType": "SessionWorkflow", USER_ATTRIBUTE: "ada", STATUS_ATTRIBUTE: ["idle", "running"]})

    assert query == (
        "WorkflowType IN ('SessionWorkflow') AND SojournUser IN ('ada') AND SojournStatus IN ('idle', 'running')"
    )


def test_attribute_without_a_wish_is_left_open() -> None:
    assert condition({USER_ATTRIBUTE: None, STATUS_ATTRIBUTE: "idle"}) == "SojournStatus IN ('idle')"
    assert condition({USER_ATTRIBUTE: None}) == ""


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("ada", "'ada'"),
        ("", "''"),
        ("o'hara", r"'o\'hara'"),
        (r"back\slash", r"'back\\slash'"),
        (r"\'", r"'\\\''"),
        ('"quoted"', "'\"quoted\"'"),
        ("x') OR (SojournUser = 'bob", r"'x\') OR (SojournUser = \'bob'"),
    ],
)
def test_value_cannot_leave_its_quotes(value: str, literal: str) -> None:
    assert quote(value) == literal


def test_value_that_no_database_takes_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="NUL"):
        condition({"SojournUser": "ada\0"})


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_limit_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await list_workflows(UNUSED, "", limit=limit, page=None)

    assert error.value.param == "limit"


@pytest.mark.parametrize("page", ["zz", "abc", "next"])
async def test_cursor_that_is_none_of_ours_is_refused(page: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await list_workflows(UNUSED, "", limit=20, page=page)

    assert error.value.param == "page"
    assert repr(page) in str(error.value)


def test_run_is_open_until_it_has_ended() -> None:
    """Which includes one that an operator has paused."""
    ended = {"COMPLETED", "FAILED", "CANCELED", "TERMINATED", "CONTINUED_AS_NEW", "TIMED_OUT"}

    for name, status in WorkflowExecutionStatus.items():
        short = name.removeprefix("WORKFLOW_EXECUTION_STATUS_")
        assert is_open(WorkflowExecutionInfo(status=status)) is (short not in ended), name


def test_run_that_goes_on_was_not_closed() -> None:
    assert closed_at(WorkflowExecutionInfo()) is None


@given(
    created=st.integers(0, 10**7),
    bound=st.integers(0, 10**10),
    sign=st.sampled_from(["gt", "gte", "lt", "lte"]),
)
@example(created=370, bound=370_000, sign="gt")
@example(created=370, bound=370_001, sign="gte")
def test_times_are_compared_between_milliseconds(created: int, bound: int, sign: str) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    stored, at = begin + timedelta(milliseconds=created), begin + timedelta(microseconds=bound)
    wanted = CreatedRange(**{sign: at})

    (condition,) = wanted.conditions(CREATED_ATTRIBUTE)

    found = re.match(r"\(SojournCreated ([<>]) '(.*?)' OR", condition)
    assert found is not None
    middle = datetime.fromisoformat(found[2])
    assert middle.microsecond % 1000 == 500
    assert wanted.admits(stored) == (stored > middle if found[1] == ">" else stored < middle)
