"""Updates that the server lost before anybody had accepted them."""

from typing import TYPE_CHECKING

import pytest
from temporalio.service import RPCError, RPCStatusCode

from sojourn.client.update import is_dropped

if TYPE_CHECKING:
    from tests.conftest import Stage

TASK_FAILURE = "Unable to perform workflow execution update due to unexpected workflow task failure."
FAILED_STATE = "Unable to perform workflow execution update due to Workflow Task in failed state."

LOST = [
    (RPCStatusCode.FAILED_PRECONDITION, TASK_FAILURE),
    (RPCStatusCode.FAILED_PRECONDITION, FAILED_STATE),
    (RPCStatusCode.ABORTED, "workflow update was aborted by closing workflow"),
    (RPCStatusCode.NOT_FOUND, "update with ID one not found"),
]


@pytest.mark.parametrize(("status", "message"), LOST)
async def test_an_update_that_an_open_session_has_not_seen_may_be_sent_again(
    stage: "Stage", status: RPCStatusCode, message: str
) -> None:
    probe = await stage.session()
    handle = stage.client.get_workflow_handle(probe.workflow_id)

    assert await is_dropped(RPCError(message, status, b""), handle)


async def test_an_update_that_a_closed_session_does_not_know_is_not_sent_again(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.archive()
    handle = stage.client.get_workflow_handle(probe.workflow_id)

    assert not await is_dropped(RPCError("workflow execution already completed", RPCStatusCode.NOT_FOUND, b""), handle)


async def test_a_refused_update_is_not_sent_again(stage: "Stage") -> None:
    probe = await stage.session()
    handle = stage.client.get_workflow_handle(probe.workflow_id)

    assert not await is_dropped(RPCError("limit exceeded", RPCStatusCode.FAILED_PRECONDITION, b""), handle)
    assert not await is_dropped(RPCError("no access", RPCStatusCode.PERMISSION_DENIED, b""), handle)
