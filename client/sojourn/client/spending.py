"""Sessions that have used up their budget take nothing that would start work."""

from collections import OrderedDict
from collections.abc import Sequence

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client

from sojourn.types.account import Budget, SessionAccount
from sojourn.types.described import memo
from sojourn.types.error import InvalidRequestError
from sojourn.types.event import UserEvent
from sojourn.types.id import SessionId
from sojourn.types.name import ACCOUNT_MEMO
from sojourn.types.session import SessionInfo

_SETTLING = ("user.interrupt", "user.tool_confirmation", "user.custom_tool_result", "user.tool_result")
"""Events that bring to an end what has begun; a session takes them at its budget too."""

_CAPACITY = 10_000


class Spending:
    """Knows which sessions have no budget. None can get one later, so each is looked at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._unlimited: OrderedDict[str, None] = OrderedDict()

    def started(self, workflow_id: str, budget: Budget | None) -> None:
        """A session was started here."""
        if budget is None:
            self._remember(workflow_id)
        else:
            self._unlimited.pop(workflow_id, None)

    def concerns(self, workflow_id: str, events: Sequence[UserEvent]) -> bool:
        """Whether the session has to be looked at before it gets these."""
        return workflow_id not in self._unlimited and any(event.type not in _SETTLING for event in events)

    async def check(self, session_id: SessionId, workflow_id: str, info: WorkflowExecutionInfo | SessionInfo) -> None:
        """Look at a session.

        Raises:
            InvalidRequestError: It has used up its budget; ``code`` is ``budget_reached``.
        """
        account = await self._account(info)
        if account.budget is None:
            self._remember(workflow_id)
        elif account.is_exhausted:
            text = f"session {session_id!r} has used up its budget of {account.budget.max_list_cost_cents} cents"
            raise InvalidRequestError(
                f"{text}; raise or remove it, then send again", param="events", code="budget_reached"
            )

    async def _account(self, info: WorkflowExecutionInfo | SessionInfo) -> SessionAccount:
        if isinstance(info, SessionInfo):
            return info.account
        return await memo(self._client, info, ACCOUNT_MEMO, SessionAccount) or SessionAccount()

    def _remember(self, workflow_id: str) -> None:
        self._unlimited[workflow_id] = None
        if len(self._unlimited) > _CAPACITY:
            self._unlimited.popitem(last=False)
