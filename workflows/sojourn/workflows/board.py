"""Where a session shows its status: the search attributes that lists and operators read."""

import asyncio
from collections.abc import Callable

from temporalio import workflow

from sojourn.workflows.transition import may_move, refusal

with workflow.unsafe.imports_passed_through():
    from sojourn.types.name import NO_STOP_REASON, STATUS_ATTRIBUTE, STOP_REASON_ATTRIBUTE
    from sojourn.types.session import SessionStatus, StopReason


class StatusBoard:
    """The status of the session, published once for each workflow task that changes it.

    A pause lies over the status below it, so that a turn may end while the session is paused.
    """

    def __init__(
        self, status: SessionStatus, stop_reason: StopReason | None, *, paused: bool, on_change: Callable[[], None]
    ) -> None:
        self._status = status
        self._stop_reason = stop_reason
        self._paused = paused
        self._published: tuple[str | None, str | None] = _shown()
        self._scheduled = False
        self._on_change = on_change

    @property
    def status(self) -> SessionStatus:
        """What the session is, a pause included."""
        return SessionStatus.PAUSED if self._paused and not self._status.is_terminal else self._status

    @property
    def below(self) -> SessionStatus:
        """What the session is or will be again without the pause."""
        return self._status

    @property
    def stop_reason(self) -> StopReason | None:
        """Why it is idle; ``None`` while it is not."""
        return self._stop_reason

    def move(self, status: SessionStatus, stop_reason: StopReason | None = None) -> None:
        """Take a legal move; the caller has made sure that it is one."""
        assert may_move(self._status, status), refusal(self._status, status)
        self._status = status
        self._stop_reason = stop_reason
        self._changed()

    def pause(self, paused: bool) -> None:
        """Put the pause over the status, or take it away."""
        self._paused = paused
        self._changed()

    def publish(self) -> None:
        """Write what has changed since the last time into the search attributes."""
        self._scheduled = False
        if (current := self._current()) != self._published:
            self._published = current
            status, reason = current
            workflow.upsert_search_attributes(
                [STATUS_ATTRIBUTE.value_set(status), STOP_REASON_ATTRIBUTE.value_set(reason)]
            )

    def _current(self) -> tuple[str, str]:
        return self.status.value, self._stop_reason.type if self._stop_reason else NO_STOP_REASON

    def _changed(self) -> None:
        self._on_change()
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.publish)


def _shown() -> tuple[str | None, str | None]:
    """What the search attributes say when the run starts: set by the client, or carried from the run before."""
    shown = workflow.info().typed_search_attributes
    return shown.get(STATUS_ATTRIBUTE), shown.get(STOP_REASON_ATTRIBUTE)
