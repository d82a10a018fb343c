"""The rules of a workspace as a worker knows them when the server is away."""

from collections.abc import Callable
from typing import Any

import pytest
from temporalio.api.common.v1 import Memo
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.service import RPCError, RPCStatusCode

from sojourn.activities.model import ModelCallError
from sojourn.activities.policy import WorkspacePolicies
from sojourn.types.converter import data_converter
from sojourn.types.name import POLICY_MEMO, POLICY_WORKFLOW
from sojourn.types.permission import PermissionPolicy
from sojourn.types.policy import WorkspacePolicy

DENY = WorkspacePolicy(policy=PermissionPolicy.of(deny=["bash"]), version=1)


class Server:
    """Describes one workflow, as long as it is there."""

    namespace = "default"
    data_converter = data_converter

    def __init__(self, policy: WorkspacePolicy | None) -> None:
        self.policy = policy
        self.away = False
        self.asked = 0

    @property
    def workflow_service(self) -> "Server":
        return self

    async def describe_workflow_execution(self, request: object, **options: Any) -> DescribeWorkflowExecutionResponse:
        self.asked += 1
        if self.away:
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
        if self.policy is None:
            raise RPCError("no such workflow", RPCStatusCode.NOT_FOUND, b"")
        (payload,) = await data_converter.encode([self.policy])
        info = WorkflowExecutionInfo(memo=Memo(fields={POLICY_MEMO: payload}))
        info.type.name = POLICY_WORKFLOW
        return DescribeWorkflowExecutionResponse(workflow_execution_info=info)


def policies(server: Server) -> WorkspacePolicies:
    return WorkspacePolicies(server)  # type: ignore[arg-type]


async def test_where_nothing_was_said_nothing_holds() -> None:
    assert await policies(Server(None)).of("acme") == WorkspacePolicy()


async def test_what_was_just_read_is_not_asked_for_again() -> None:
    server = Server(DENY)
    known = policies(server)

    assert [await known.of("acme"), await known.of("acme")] == [DENY, DENY]
    assert server.asked == 1
    assert await known.of("acme", changed=True) == DENY
    assert server.asked == 2


@pytest.mark.parametrize(
    "lose", [lambda server: setattr(server, "away", True), lambda server: setattr(server, "policy", None)]
)
async def test_what_was_known_last_holds_while_nothing_can_be_read(lose: Callable[[Server], None]) -> None:
    server = Server(DENY)
    known = policies(server)
    await known.of("acme")

    lose(server)

    assert await known.of("acme", changed=True) == DENY


async def test_rules_that_were_never_read_fail_the_step_so_that_it_is_tried_again() -> None:
    server = Server(DENY)
    server.away = True

    with pytest.raises(ModelCallError) as error:
        await policies(server).of("acme")

    assert error.value.failure.may_retry
