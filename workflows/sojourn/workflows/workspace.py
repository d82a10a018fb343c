"""The session's workspace as the workflow sees it: which worker holds it, and what is to be done about it."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType

from sojourn.workflows.journal import Journal
from sojourn.workflows.option import (
    CHECKPOINT,
    CHECKPOINT_TIMEOUT,
    HEARTBEAT_TIMEOUT,
    OPEN_WORKSPACE,
    OPEN_WORKSPACE_TIMEOUT,
)
from sojourn.workflows.resource import Resources

with workflow.unsafe.imports_passed_through():
    from sojourn.types.event import SessionErrorEvent
    from sojourn.types.name import (
        CHECKPOINT_WORKSPACE_ACTIVITY,
        OPEN_WORKSPACE_ACTIVITY,
        SANDBOX_ELSEWHERE,
        WORKSPACE_LOST,
    )
    from sojourn.types.session_error import ErrorDetail, RetryStatus
    from sojourn.types.workspace import (
        Checkpoint,
        CheckpointWorkspaceInput,
        CheckpointWorkspaceResult,
        OpenWorkspaceInput,
        OpenWorkspaceResult,
        WorkspaceState,
        sandbox_queue,
    )


class Workspace:
    """Opens the workspace where it is needed, moves it when its worker is gone, and has its files stored."""

    def __init__(self, state: WorkspaceState | None, journal: Journal, resources: Resources) -> None:
        self._state = state or WorkspaceState()
        self._resources = resources
        self._journal = journal
        self._opening: asyncio.Task[None] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._moved = ""

    @property
    def state(self) -> WorkspaceState | None:
        """What the next run must know; ``None`` while there is no workspace."""
        return self._state if self._state.generation else None

    @property
    def generation(self) -> int:
        """Which opening calls are for."""
        return self._state.generation

    @property
    def queue(self) -> str:
        """Task queue of the worker that holds it."""
        return self._state.queue

    async def ready(self) -> None:
        """Make sure that a worker holds it. All calls that need it share one opening.

        Raises:
            ActivityError: It could not be opened.
        """
        if self._storing is not None:
            await asyncio.wait({self._storing})
        if self._opening is None and (not self._state.queue or self._state.stale):
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_heard)
        if (opening := self._opening) is not None:
            await asyncio.shield(opening)

    def touched(self) -> str:
        """A call is about to run in it.

        Returns:
            What the model is to know before the result; empty as a rule.
        """
        self._update(touched=True)
        notice, self._moved = self._moved, ""
        return notice

    def lost(self, generation: int) -> None:
        """A call could not be started there: whoever needs it next opens it elsewhere."""
        if generation == self._state.generation and self._state.queue:
            self._update(queue="")

    def resources_changed(self) -> None:
        """The session's resources are others now; the next call sees them."""
        if self._state.generation:
            self._update(stale=True)

    def store(self) -> None:
        """Have its files stored, if tools have run in it. No turn waits for it; the next call in the workspace does."""
        if self._state.touched and self._state.queue and self._storing is None:
            self._storing = asyncio.create_task(self._store())

    async def at_rest(self) -> None:
        """Wait until nothing is in flight for it."""
        for task in (self._opening, self._storing):
            if task is not None:
                await asyncio.wait({task})

    async def close(self) -> None:
        """End what is in flight for it; the session ends."""
        for task in (self._opening, self._storing):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        before = self._state
        moves = not before.queue
        generation = before.generation + 1 if moves else before.generation
        held = before.held
        # Counted before it is known to succeed: what a lost attempt leaves behind must be stale for all that follow.
        self._update(stale=False, generation=generation)
        try:
            result = await self._open_at(
                before.queue,
                OpenWorkspaceInput(
                    generation=generation, held=held, checkpoint=before.checkpoint, resources=self._resources.current
                ),
            )
        except ActivityError as error:
            self._update(stale=not moves)
            if is_lost(error):
                self.lost(generation)
            raise
        finally:
            self._opening = None
        kept = result.kept or not moves
        self._update(queue=result.queue, held=generation, touched=before.touched and kept)
        if held and not kept:
            self._say_moved(result.restored)
        for detail in result.errors:
            self._journal.say(SessionErrorEvent(error=detail))

    async def _open_at(self, queue: str, wanted: OpenWorkspaceInput) -> OpenWorkspaceResult:
        """Have it opened where it is, or by any worker; one without a sandbox sends us to those with one."""
        try:
            return await _start_opening(queue or None, wanted)
        except ActivityError as error:
            if not (isinstance(error.cause, ApplicationError) and error.cause.type == SANDBOX_ELSEWHERE):
                raise
        return await _start_opening(sandbox_queue(workflow.info().task_queue), wanted)

    def _say_moved(self, restored: Checkpoint | None) -> None:
        what = f"as of {restored.at:%Y-%m-%d %H:%M:%S} UTC" if restored else "empty, because it was never stored"
        text = f"the worker that held the workspace is gone; it is now on another, {what}"
        self._moved = f"[Note: {text}. Processes that ran in it are gone, and so is what was changed since.]"
        detail = ErrorDetail(type="workspace_moved_error", message=text, retry_status=RetryStatus(type="retrying"))
        self._journal.say(SessionErrorEvent(error=detail))

    async def _store(self) -> None:
        generation = self._state.generation
        self._update(touched=False)
        try:
            result = await workflow.execute_activity(
                CHECKPOINT_WORKSPACE_ACTIVITY,
                CheckpointWorkspaceInput(generation=generation, previous=self._state.checkpoint),
                result_type=CheckpointWorkspaceResult,
                task_queue=self._state.queue,
                schedule_to_start_timeout=timedelta(seconds=20),
                start_to_close_timeout=CHECKPOINT_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=CHECKPOINT,
                summary="store the workspace",
            )
            if result.checkpoint is not None:
                self._update(checkpoint=result.checkpoint)
            for detail in result.errors:
                self._journal.say(SessionErrorEvent(error=detail))
        except ActivityError as error:
            # Stored with the next turn's work; until then the files are on one worker only.
            self._update(touched=True)
            if is_lost(error):
                self.lost(generation)
            workflow.logger.warning("the workspace was not stored: %s", _reason(error))
        finally:
            self._storing = None

    def _update(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)


async def _start_opening(queue: str | None, wanted: OpenWorkspaceInput) -> OpenWorkspaceResult:
    opened: OpenWorkspaceResult = await workflow.execute_activity(
        OPEN_WORKSPACE_ACTIVITY,
        wanted,
        result_type=OpenWorkspaceResult,
        task_queue=queue,
        schedule_to_start_timeout=timedelta(seconds=20) if queue else None,
        start_to_close_timeout=OPEN_WORKSPACE_TIMEOUT,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=OPEN_WORKSPACE,
        summary=f"open the workspace, generation {wanted.generation}",
    )
    return opened


def _heard(task: asyncio.Task[None]) -> None:
    """Those who waited may have been interrupted; asyncio reports a failure that nobody asked for."""
    if not task.cancelled():
        task.exception()


def is_lost(error: ActivityError) -> bool:
    """Whether an activity did not start because the workspace is not where it was thought to be."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type == WORKSPACE_LOST
    return isinstance(cause, TimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_START


def _reason(error: ActivityError) -> str:
    cause = error.cause
    message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
    return " ".join(message.split())[:300]


def refusal_of(error: ActivityError) -> str:
    """Why the workspace could not be opened, for the model and people."""
    return f"The tool did not run: the workspace could not be opened: {_reason(error)}"
