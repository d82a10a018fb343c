"""Telling hooks of the end of a turn, beside the session: no turn waits for them, only the end of the run."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from sojourn.types.event import SessionErrorEvent
    from sojourn.types.name import NOTIFY_TURN_ACTIVITY
    from sojourn.types.record import NotifyTurnInput, Warned
    from sojourn.types.session_error import ErrorDetail, RetryStatus

_TIMEOUT = timedelta(minutes=5)
_RETRY = RetryPolicy(maximum_attempts=3)


class Notices:
    """Runs one activity for each turn that hooks want to know of."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def turn_ended(self, turn: NotifyTurnInput) -> None:
        """Have the hooks told."""
        task = asyncio.create_task(_notify(turn))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def at_rest(self) -> None:
        """Wait until all of them have been told, or it was given up."""
        if self._running:
            await asyncio.wait(self._running)


async def _notify(turn: NotifyTurnInput) -> None:
    try:
        await workflow.execute_activity(
            NOTIFY_TURN_ACTIVITY,
            turn,
            start_to_close_timeout=_TIMEOUT,
            # A session must be able to end where no worker has the hooks any more.
            schedule_to_close_timeout=3 * _TIMEOUT,
            retry_policy=_RETRY,
            summary=f"turn {turn.turn} is complete",
        )
    except ActivityError as error:
        workflow.logger.warning("hooks were not told of the end of turn %s: %s", turn.turn, error.cause or error)


def warning(warned: Warned) -> SessionErrorEvent:
    """How the log shows what people are to know."""
    over = warned.type == "prompt_denied_error"
    detail = ErrorDetail(
        type=warned.type,
        message=warned.message,
        retry_status=RetryStatus(type="exhausted" if over else "retrying"),
        error_class="InvalidRequestError" if over else None,
    )
    return SessionErrorEvent(error=detail)
