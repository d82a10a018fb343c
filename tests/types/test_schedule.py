from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from sojourn.types import (
    AgentDefinition,
    AgentId,
    AgentRef,
    AgentVersion,
    CronSchedule,
    DeploymentChange,
    DeploymentDefinition,
    DeploymentId,
    DeploymentRunId,
    InvalidRequestError,
    ModelRef,
    Owner,
    RunError,
    UserMessage,
    parse,
)
from sojourn.types.id import deployment_run_id, is_scheduled_run, run_session_id, run_workflow_id, scheduled_run_prefix
from sojourn.types.schedule import RunErrorType, StoredDeployment

HELLO = UserMessage.text("hello")
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
AGENT = AgentVersion(
    id=AgentId("agent_1"), version=3, definition=AgentDefinition(name="a", model=ModelRef.of("scripted:echo"))
)
STORED = StoredDeployment(
    id=DeploymentId("depl_1"),
    owner=Owner(),
    name="nightly",
    agent=AGENT,
    initial_events=(HELLO,),
    description="old",
    metadata={"a": "1"},
    created_at=NOW,
    updated_at=NOW,
)


@pytest.mark.parametrize(
    ("expression", "jitter"),
    [
        ("* * * * *", timedelta(seconds=9)),
        ("*/2 * * * *", timedelta(seconds=18)),
        ("0 * * * *", timedelta(minutes=9)),
        ("0 0 1 1 *", timedelta(minutes=9)),
    ],
)
def test_jitter_is_a_small_part_of_the_interval(expression: str, jitter: timedelta) -> None:
    assert CronSchedule(expression=expression, timezone="UTC").jitter == jitter


@pytest.mark.parametrize(
    ("schedule", "start", "due"),
    [
        (("* * * * *", "UTC"), "2026-11-21T09:05:08+00:00", "2026-11-21T09:05:00+00:00"),
        (("0 3 * * *", "Europe/Berlin"), "2026-11-21T02:08:59+00:00", "2026-11-21T02:00:00+00:00"),
        (("0 3 * * *", "Europe/Berlin"), "2026-07-01T01:00:00+00:00", "2026-07-01T01:00:00+00:00"),
        # The clock shows 2:30 twice.
        (("30 2 * * *", "Europe/Berlin"), "2026-10-25T00:33:00+00:00", "2026-10-25T00:30:00+00:00"),
        (("30 2 * * *", "Europe/Berlin"), "2026-10-25T01:33:00+00:00", "2026-10-25T01:30:00+00:00"),
        # What does not fit, and a zone that this machine does not know, are shown as they are.
        (("0 3 * * *", "UTC"), "2026-11-21T04:00:00+00:00", "2026-11-21T04:00:00+00:00"),
        (("* * * * *", "Mars/Olympus"), "2026-11-21T04:00:05+00:00", "2026-11-21T04:00:05+00:00"),
    ],
)
def test_start_tells_when_it_was_due(schedule: tuple[str, str], start: str, due: str) -> None:
    expression, timezone = schedule

    found = CronSchedule(expression=expression, timezone=timezone).due(datetime.fromisoformat(start))

    assert found == datetime.fromisoformat(due)


@pytest.mark.parametrize("timezone", ["", "Local", "Europe Berlin", "../etc", "+01:00", "x" * 65])
def test_what_is_no_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(CronSchedule, {"expression": "* * * * *", "timezone": timezone})

    assert error.value.param == "timezone"


def test_agent_can_be_named_by_its_id() -> None:
    made = DeploymentDefinition(name="nightly", agent="agent_1", initial_events=[HELLO])

    assert made.agent == AgentRef(id=AgentId("agent_1"))


def test_change_tells_none_from_left_out() -> None:
    change: DeploymentChange = parse(DeploymentChange, {"description": None, "metadata": {"a": None, "b": "2"}})

    changed = change.applied(STORED, None)

    assert changed == STORED.model_copy(update={"description": None, "metadata": {"b": "2"}})
    assert DeploymentChange().applied(STORED, None) == STORED
    assert DeploymentChange(name=None, description="").applied(STORED, None).description is None


def test_some_errors_keep_the_schedule_going() -> None:
    kept = [kind for kind in get_args(RunErrorType) if not _error(kind).pauses]

    assert kept == ["session_creation_rejected_error", "session_rate_limited_error"]


def _error(kind: str) -> RunError:
    return RunError.model_validate({"type": kind, "message": "x"})


def test_id_of_a_run_by_schedule_holds_when_it_was_due() -> None:
    id = f"acme/{scheduled_run_prefix(DeploymentId('depl_ab12'))}-2026-11-21T03:00:00Z"

    run_id = deployment_run_id(id)

    assert run_id == f"drun_ab12-{int(datetime(2026, 11, 21, 3, tzinfo=UTC).timestamp()):x}"
    assert run_workflow_id("acme", run_id) == id
    assert is_scheduled_run(id)
    assert run_session_id(id) == run_session_id(id) != run_session_id(id.replace("03", "04"))


def test_id_of_a_run_by_hand_is_its_own() -> None:
    assert run_workflow_id("acme", DeploymentRunId("drun_1")) == "acme/drun_1"
    assert not is_scheduled_run("acme-west/drun_1")
    assert deployment_run_id("acme/drun_1") == "drun_1"
