"""How much a session can be sent before it has to catch up.

A run can give way to the next only between steps. What is sent during a long step stays in its history, and the server
ends a workflow for good whose history grows past its limits. So whoever sends a lot looks at the session now and then.
"""

from collections import OrderedDict

from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from sojourn.types.error import SessionBusyError
from sojourn.types.id import SessionId

MAX_HISTORY_EVENTS = 4_000
"""What a worker that was away can take up at once: a workflow has 2 s for that, and 9,000 signals took longer."""

MAX_HISTORY_BYTES = 30_000_000
"""The server ends a workflow at 50 MB (``limit.historySize.error``)."""

MAX_QUEUED = 10_000
"""Messages that may wait for their turn. Several clients at once can exceed it a little; the session then refuses."""

_LOOK_SENDS = 200
_LOOK_EVENTS = 1_000
_LOOK_BYTES = 1_000_000
_CAPACITY = 10_000


class SessionLoads:
    """Counts what this process has sent to each session since it last looked at it."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def add(self, workflow_id: str, *, events: int, size_bytes: int) -> bool:
        """Count one call.

        Returns:
            Whether it is time to look at the session, before this call is made.
        """
        sends, total, size = self._sent.pop(workflow_id, (0, 0, 0))
        counted = (sends + 1, total + events, size + size_bytes)
        self._sent[workflow_id] = counted
        if len(self._sent) > _CAPACITY:
            self._sent.popitem(last=False)
        return counted[0] >= _LOOK_SENDS or counted[1] >= _LOOK_EVENTS or counted[2] >= _LOOK_BYTES

    def looked(self, workflow_id: str) -> None:
        """The session can take more; count from the beginning."""
        self._sent.pop(workflow_id, None)


def check_load(session_id: SessionId, info: WorkflowExecutionInfo, *, queued: int) -> None:
    """Refuse to send more than the session can hold.

    Raises:
        SessionBusyError: It has to catch up first.
    """
    if info.history_length >= MAX_HISTORY_EVENTS or info.history_size_bytes >= MAX_HISTORY_BYTES:
        much = f"{info.history_length:,} events and {info.history_size_bytes:,} bytes"
        raise SessionBusyError(
            session_id, reason=f"has {much} in one step; interrupt it, start a worker, or wait until it has ended"
        )
    if queued >= MAX_QUEUED:
        raise SessionBusyError(
            session_id, reason=f"has about {queued:,} messages waiting; send more when it has caught up"
        )
