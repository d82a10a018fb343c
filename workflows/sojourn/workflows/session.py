"""The session workflow: one durable agent session.

The main coroutine takes one message after another from the queue and runs a turn for each. Handlers only change state.
All text stays in history; the workflow holds ids, statuses and counters.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime

from temporalio import workflow
from temporalio.common import RawValue

from sojourn.workflows.board import StatusBoard
from sojourn.workflows.detail import Display, describe, snippet
from sojourn.workflows.export import Exporter, start_final_export
from sojourn.workflows.failure import TurnFailedError, error_event
from sojourn.workflows.journal import Journal
from sojourn.workflows.ledger import Ledger
from sojourn.workflows.mcp import McpServers
from sojourn.workflows.notice import Notices
from sojourn.workflows.refusal import refuse
from sojourn.workflows.resource import Resources
from sojourn.workflows.signal import read_signal, read_text
from sojourn.workflows.transition import may_move, refusal
from sojourn.workflows.turn import Turn
from sojourn.workflows.watch import Watch
from sojourn.workflows.work_request import WorkRequests
from sojourn.workflows.workspace import Workspace

with workflow.unsafe.imports_passed_through():
    from sojourn.types.account import SessionAccount
    from sojourn.types.content import text_of
    from sojourn.types.error import InvalidRequestError, SessionClosedError, SessionStateError
    from sojourn.types.event import (
        SessionErrorEvent,
        SessionIdle,
        SessionPaused,
        SessionResumed,
        SessionRunning,
        SessionTerminated,
        SessionUpdated,
        SystemMessage,
        UserCustomToolResult,
        UserEvent,
        UserInterrupt,
        UserMessage,
        UserToolConfirmation,
        UserToolResult,
    )
    from sojourn.types.export import ExportInput, ExportResult
    from sojourn.types.file_error import ResourceMissingError
    from sojourn.types.id import EventId
    from sojourn.types.log import LogCursor
    from sojourn.types.name import (
        ACCOUNT_MEMO,
        AGENT_STATE_QUERY,
        AGENT_VERSION_ATTRIBUTE,
        ARCHIVE_UPDATE,
        CHANGE_RESOURCES_UPDATE,
        CREATED_MEMO,
        METADATA_MEMO,
        PAUSE_UPDATE,
        PENDING_ACTIONS_QUERY,
        QUEUED_MEMO,
        RESUME_UPDATE,
        SESSION_WORKFLOW,
        STATUS_QUERY,
        TITLE_MEMO,
        UPDATE_SESSION_UPDATE,
        USAGE_QUERY,
        WORK_OVER_SIGNAL,
    )
    from sojourn.types.record import NotifyTurnInput
    from sojourn.types.resource import ChangeResourcesInput
    from sojourn.types.session import (
        AgentState,
        ArchiveInput,
        EndTurn,
        PendingAction,
        RequiresAction,
        RetriesExhausted,
        SessionInput,
        SessionResult,
        SessionState,
        SessionStatus,
        StatusReport,
        StopReason,
        TurnState,
        UpdateSessionInput,
    )
    from sojourn.types.session_error import ErrorDetail, RetryStatus
    from sojourn.types.usage import Usage
    from sojourn.types.wire import parse


QUEUE_LIMIT = 25_000
"""Messages that wait; their ids are handed from run to run in one payload, of 2 MiB where there is no store."""

_MANY = 1_000

AT_ANY_TIME = ArchiveInput()
"""Clients of release 0.1 archive without saying how."""


@workflow.defn(name=SESSION_WORKFLOW)
class SessionWorkflow:
    """One agent session, from its first message to its archive."""

    @workflow.init
    def __init__(self, input: SessionInput) -> None:
        state = input.state or SessionState(seq=0, user_events=0, status=SessionStatus.QUEUED)
        self._input = input
        self._agent = input.agent
        self._title = state.title if input.state else input.title
        self._metadata = dict(state.metadata if input.state else input.metadata)
        cursor = LogCursor(input.session_id, seq=state.seq, user_events=state.user_events, seen=state.seen)
        self._journal = Journal(cursor, self._account_now)
        self._account = Ledger(input)
        self._watch = Watch(input.session_id, input.owner.workspace, input.agent)
        self._display = Display(self._details)
        self._board = StatusBoard(state.status, state.stop_reason, paused=state.paused, on_change=self._moved)
        self._resources = Resources(input.resources)
        self._workspace = Workspace(state.workspace, self._journal, self._resources)
        self._mcp = McpServers(state.mcp, input.agent.definition, self._journal)
        self._skip_permissions = input.skip_permissions
        self._notices = Notices()
        self._exporter = Exporter(self._display.touch)
        self._exporting: asyncio.Task[ExportResult] | None = None
        self._work = WorkRequests(input, state.work, lambda: self._wants_work)
        self._turn: Turn | None = None
        self._queue: deque[EventId] = deque(state.queue)
        self._context = list(state.context)
        self._shown_queue = len(state.queue) // _MANY
        self._snippets: dict[EventId, str] = {}
        self._turns = state.turns
        self._usage = state.usage
        self._compact = state.compact
        self._heard = self._said = ""
        self._ending: SessionStatus | None = None
        self._sealed = False
        self._agent_changed = False
        self._open_turn = state.turn
        # Made here, because messages to the run are handled before its main coroutine begins.
        self._turn = self._make_turn(state.turn) if state.turn else None

    @workflow.run
    async def run(self, input: SessionInput) -> SessionResult:
        """Run turns until the session ends or gives way to its next run."""
        self._export_previous()
        while self._ending is None or self._open_turn is not None:
            await workflow.wait_condition(self._has_work)
            if self._ending is not None and self._open_turn is None:
                break
            if self._ending is None and self._roll_over_due():
                await self._continue_as_new()
                continue
            if self._open_turn is None:
                self._begin_turn()
            await self._run_turn()
        assert self._ending is not None
        return await self._seal(self._ending)

    # --- turns -----------------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        if self._ending is not None or self._roll_over_due():
            return True
        return self._open_turn is not None or (bool(self._queue) and self._board.status is not SessionStatus.PAUSED)

    def _begin_turn(self) -> None:
        message = self._queue.popleft()
        self._show_queue()
        self._turns += 1
        self._heard = self._snippets.pop(message, "")
        self._open_turn = TurnState(consumes=(*self._context, message), compact=self._compact)
        self._context = []
        self._board.move(SessionStatus.RUNNING)
        self._journal.say(SessionRunning(user_event_id=message))

    def _make_turn(self, state: TurnState) -> Turn:
        return Turn(
            state,
            agent=self._agent.definition,
            journal=self._journal,
            board=self._board,
            session_usage=self._usage,
            account=self._account,
            roll_over_due=self._roll_over_due,
            on_change=self._display.touch,
            watch=self._watch,
            workspace=self._workspace,
            skips=lambda: self._skip_permissions,
            mcp=self._mcp,
            title=f"turn {self._turns}" + (f": {snippet(self._heard)}" if self._heard else ""),
        )

    async def _run_turn(self) -> None:
        assert self._open_turn is not None
        turn = self._turn = self._turn or self._make_turn(self._open_turn)
        self._watch.turn_begins(
            self._agent,
            turn=self._turns,
            message=self._open_turn.consumes[-1] if self._open_turn.consumes else None,
            continues=self._input.state is not None and self._open_turn is self._input.state.turn,
        )
        try:
            reason = await turn.run()
        except TurnFailedError as error:
            reason = self._failed(error)
        self._said = turn.said or self._said
        self._turn = None
        if reason is None:
            self._open_turn = turn.state()
        else:
            self._end_turn(turn, reason)

    def _end_turn(self, turn: Turn, reason: StopReason) -> None:
        self._open_turn = None
        self._watch.turn_ends(reason.type, steps=turn.steps, usage=turn.usage)
        if turn.notify and workflow.patched("turn-complete"):
            self._notices.turn_ended(self._notice(turn, reason))
        self._journal.say(turn.usage_event())
        self._usage += turn.usage
        # A turn that ended before its first step leaves its message to the next one's context.
        self._context = [*turn.state().consumes, *self._context]
        self._compact = turn.state().compact
        if self._ending is None:
            self._journal.say(SessionIdle(stop_reason=reason))
            self._board.move(SessionStatus.IDLE, reason)
            self._workspace.store()

    def _notice(self, turn: Turn, reason: StopReason) -> NotifyTurnInput:
        return NotifyTurnInput(
            session_id=self._input.session_id,
            agent_id=self._agent.id,
            owner=self._input.owner,
            hooks=self._agent.definition.hooks,
            stop_reason=reason.type,
            turn=self._turns,
            steps=turn.steps,
        )

    def _failed(self, error: TurnFailedError) -> StopReason:
        self._watch.turn_failed(error.error_type)
        fatal = self._agent.definition.limits.on_exhausted == "failed"
        self._journal.say(error_event(error, retry="terminal" if fatal else "exhausted"))
        if fatal:
            self._ending = SessionStatus.FAILED
        return RetriesExhausted()

    def _export_previous(self) -> None:
        """See to it that the run before outlives the server's retention. No turn waits for it."""
        previous = workflow.info().continued_run_id if self._input.state is not None else None
        if previous is not None and workflow.patched("export"):
            request = ExportInput(workflow_id=workflow.info().workflow_id, run_id=previous)
            self._exporting = asyncio.create_task(self._exporter.export(request))

    # --- ends of a run ---------------------------------------------------------------------------------------------

    async def _seal(self, status: SessionStatus) -> SessionResult:
        """Say the last word. In one workflow task with the completion, so nothing can come after it."""
        await self._workspace.close()
        await self._notices.at_rest()
        if workflow.patched("export-at-end"):
            await start_final_export(workflow.info().workflow_id)
        self._journal.say(SessionTerminated(status=status))
        self._board.move(status)
        self._journal.flush()
        self._board.publish()
        self._sealed = True
        self._watch.session_ended(status)
        self._display.show()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return SessionResult(status=status, seq=self._journal.cursor.seq, usage=self._usage)

    def _roll_over_due(self) -> bool:
        info, limit = workflow.info(), self._input.roll_over
        return (
            self._agent_changed
            or info.get_current_history_length() >= limit.max_events
            or info.get_current_history_size() >= limit.max_bytes
            or info.is_continue_as_new_suggested()
            or info.is_target_worker_deployment_version_changed()
        )

    async def _continue_as_new(self) -> None:
        """Give way to the next run, unless the session is archived before its handlers have finished."""
        await self._workspace.at_rest()
        await self._work.at_rest()
        await self._notices.at_rest()
        await workflow.wait_condition(lambda: workflow.all_handlers_finished() or self._ending is not None)
        if self._ending is not None:
            return
        self._journal.flush()
        self._board.publish()
        self._watch.rolls_over()
        self._show_agent_version()
        following = self._input.model_copy(
            update={
                "agent": self._agent,
                "budget": self._account.budget,
                "resources": self._resources.current,
                "skip_permissions": self._skip_permissions,
                "state": self._state(),
            }
        )
        # Without it the next run would show the memo that the first one was started with.
        memo: dict[str, object] = {
            TITLE_MEMO: self._title,
            METADATA_MEMO: self._metadata,
            ACCOUNT_MEMO: self._shown_account(),
            CREATED_MEMO: workflow.memo_value(
                CREATED_MEMO, default=workflow.info().workflow_start_time, type_hint=datetime
            ),
        }
        if self._shown_queue:
            memo[QUEUED_MEMO] = len(self._queue)
        if workflow.info().is_target_worker_deployment_version_changed():
            # A pinned run would be followed by one on the same old version, and roll over again at once.
            upgrade = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
            workflow.continue_as_new(following, memo=memo, initial_versioning_behavior=upgrade)
        workflow.continue_as_new(following, memo=memo)

    def _state(self) -> SessionState:
        cursor = self._journal.cursor
        return SessionState(
            seq=cursor.seq,
            user_events=cursor.user_events,
            seen=cursor.seen,
            queue=tuple(self._queue),
            context=tuple(self._context),
            turns=self._turns,
            usage=self._usage,
            status=self._board.below,
            stop_reason=self._board.stop_reason,
            paused=self._board.status is SessionStatus.PAUSED,
            turn=self._open_turn,
            # Another agent may have another window; its first step tells.
            compact=self._compact and not self._agent_changed,
            title=self._title,
            metadata=self._metadata,
            account=self._shown_account(),
            work=self._work.live,
            workspace=self._workspace.state,
            # The servers of another agent are asked anew, whatever they are called.
            mcp=None if self._agent_changed else self._mcp.state,
        )

    def _show_agent_version(self) -> None:
        shown = workflow.info().typed_search_attributes.get(AGENT_VERSION_ATTRIBUTE)
        # Only where it has been set from the start is it known to be registered.
        if shown is not None and shown != str(self._agent.version):
            workflow.upsert_search_attributes([AGENT_VERSION_ATTRIBUTE.value_set(str(self._agent.version))])

    def _account_now(self) -> SessionAccount:
        """The account, as changed now."""
        self._account.touch()
        return self._shown_account()

    def _shown_account(self) -> SessionAccount:
        turn = self._turn or self._open_turn
        return self._account.shown(self._usage + turn.usage if turn else self._usage, turns=self._turns)

    def _moved(self) -> None:
        self._account.observe(self._board.status)
        self._display.touch()
        self._work.look()

    # --- messages --------------------------------------------------------------------------------------------------

    @workflow.signal(dynamic=True)
    def user_events(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take events from a client, in order; a repeated id is one event."""
        # Anybody may send a signal by hand, with any name and any arguments. A handler with typed parameters would
        # raise where their number is another, and stop the session for good.
        if name == WORK_OVER_SIGNAL:
            return self._work.over(read_text(arguments))
        sent = read_signal(name, arguments)
        if sent is not None:
            self._display.touch()
            fresh = self._journal.accept(sent)
            refused = self._surplus(fresh)
            for event in fresh:
                if event.id not in refused:
                    self._take(event)
            self._show_queue()

    @property
    def _wants_work(self) -> bool:
        """Whether calls wait for a worker of the user's own."""
        parked = isinstance(self._board.stop_reason, RequiresAction) and self._ending is None
        return parked and self._turn is not None and self._turn.wants_work

    def _surplus(self, fresh: list[UserEvent]) -> set[EventId]:
        """The messages of a signal that find the queue full. Clients see to it that it does not come to this."""
        messages = [event.id for event in fresh if isinstance(event, UserMessage)]
        room = QUEUE_LIMIT - len(self._queue)
        if len(messages) <= room or not workflow.patched("queue-limit"):
            return set()
        refused = messages[max(room, 0) :]
        text = f"{len(refused)} messages were refused: {len(self._queue):,} wait already; send them again later"
        detail = ErrorDetail(
            type="queue_full_error",
            message=text,
            retry_status=RetryStatus(type="exhausted"),
            error_class="SessionBusyError",
            event_ids=tuple(refused),
        )
        self._journal.say(SessionErrorEvent(error=detail))
        return set(refused)

    def _show_queue(self) -> None:
        """Tell clients about how many wait, whenever it is another number of thousands."""
        shown = len(self._queue) // _MANY
        if shown != self._shown_queue and workflow.patched("queue-memo"):
            self._shown_queue = shown
            workflow.upsert_memo({QUEUED_MEMO: len(self._queue)})

    def _take(self, event: UserEvent) -> None:
        match event:
            case UserMessage():
                self._queue.append(event.id)
                self._watch.heard(event.id)
                self._snippets[event.id] = snippet(text_of(event.content))
            case SystemMessage():
                self._context.append(event.id)
            case UserInterrupt():
                self._interrupt()
            case UserToolConfirmation() | UserCustomToolResult() | UserToolResult() if self._turn:
                self._turn.take(event)

    def _interrupt(self) -> None:
        if self._turn is not None:
            self._watch.interrupted()
            self._turn.interrupt()
        elif self._open_turn is None and self._ending is None:
            if workflow.patched("usage-before-idle"):
                self._journal.say(self._account.usage_event(self._usage, turn=Usage()))
            self._journal.say(SessionIdle(stop_reason=EndTurn()))
            self._board.move(SessionStatus.IDLE, EndTurn())

    # --- control ---------------------------------------------------------------------------------------------------

    @workflow.update(name=PAUSE_UPDATE)
    def pause(self) -> None:
        """Hold before the next step; what runs finishes and is kept."""
        self._board.pause(True)
        self._journal.say(SessionPaused())

    @pause.validator
    def _may_pause(self) -> None:
        self._require(SessionStatus.PAUSED)

    @workflow.update(name=RESUME_UPDATE)
    def resume(self) -> None:
        """Let the session go on."""
        self._board.pause(False)
        self._journal.say(SessionResumed(status=self._board.status))

    @resume.validator
    def _may_resume(self) -> None:
        if self._ending is not None or self._board.status is not SessionStatus.PAUSED:
            raise refuse(SessionStateError(f"session is {self._now().value}, not paused; there is nothing to resume"))

    @workflow.update(name=ARCHIVE_UPDATE)
    async def archive(self, how: ArchiveInput = AT_ANY_TIME) -> None:
        """End the session for good, as an interrupt would end its turn. Returns when the log is sealed."""
        self._ending = SessionStatus.ARCHIVED
        if self._turn is not None:
            self._turn.interrupt()
        await workflow.wait_condition(lambda: self._sealed)

    @archive.validator
    def _may_archive(self, how: ArchiveInput = AT_ANY_TIME) -> None:
        if self._ending is not None:
            raise refuse(SessionClosedError(self._input.session_id, status=self._ending))
        if how.only_if_idle and self._is_busy:
            raise refuse(SessionStateError("session is running; wait until it is idle, or interrupt it first"))

    @property
    def _is_busy(self) -> bool:
        """Whether a turn is in progress, and neither waits nor is paused; or is about to begin."""
        at_work = self._board.status in (SessionStatus.RUNNING, SessionStatus.RESCHEDULING)
        return at_work or (bool(self._queue) and self._open_turn is None and self._has_work())

    @workflow.update(name=UPDATE_SESSION_UPDATE)
    def update_session(self, change: UpdateSessionInput) -> None:
        """Change title, metadata, budget or permissions at any time, the agent's snapshot between turns."""
        if change.title is not None:
            self._title = change.title
        self._metadata = self._patched(change)
        if change.agent is not None:
            self._agent, self._agent_changed = change.agent, True
        removed = change.remove_budget and self._account.budget is not None
        if change.budget is not None or removed:
            self._account.budget = change.budget
        if change.skip_permissions is not None:
            self._skip_permissions = change.skip_permissions
        account = self._account_now()
        workflow.upsert_memo({TITLE_MEMO: self._title, METADATA_MEMO: self._metadata, ACCOUNT_MEMO: account})
        self._journal.say(
            SessionUpdated(
                title=change.title,
                metadata=self._metadata if change.metadata else None,
                agent_version=change.agent.version if change.agent else None,
                budget=change.budget,
                budget_removed=removed,
                skip_permissions=change.skip_permissions,
            )
        )

    @update_session.validator
    def _may_update(self, change: UpdateSessionInput) -> None:
        if self._ending is not None:
            raise refuse(SessionClosedError(self._input.session_id, status=self._ending))
        if change.agent is not None and (self._turn is not None or self._open_turn is not None or self._queue):
            raise refuse(
                SessionStateError("the agent of a session can change between turns only; wait until it is idle")
            )
        try:
            self._account.check(change)
            parse(SessionUpdated, {"metadata": self._patched(change)})
        except InvalidRequestError as error:
            raise refuse(error) from None

    def _patched(self, change: UpdateSessionInput) -> dict[str, str]:
        merged = {**self._metadata, **(change.metadata or {})}
        return {key: value for key, value in merged.items() if value is not None}

    @workflow.update(name=CHANGE_RESOURCES_UPDATE)
    def change_resources(self, change: ChangeResourcesInput) -> None:
        """Change what is mounted; the next call that needs the workspace sees it."""
        self._resources.change(change)
        self._workspace.resources_changed()

    @change_resources.validator
    def _may_change_resources(self, change: ChangeResourcesInput) -> None:
        if self._ending is not None:
            raise refuse(SessionClosedError(self._input.session_id, status=self._ending))
        try:
            self._resources.changed(change)
        except (InvalidRequestError, ResourceMissingError) as error:
            raise refuse(error) from None

    def _require(self, target: SessionStatus) -> None:
        if self._ending is not None or not may_move(self._board.status, target):
            raise refuse(SessionStateError(refusal(self._now(), target)))

    def _now(self) -> SessionStatus:
        return self._ending or self._board.status

    # --- queries ---------------------------------------------------------------------------------------------------

    @workflow.query(name=STATUS_QUERY)
    def status(self) -> StatusReport:
        """The exact live state."""
        return StatusReport(
            status=self._board.status,
            stop_reason=self._board.stop_reason,
            turns=self._turns,
            steps=self._turn.steps if self._turn else 0,
            queued=len(self._queue),
        )

    @workflow.query(name=PENDING_ACTIONS_QUERY)
    def pending_actions(self) -> list[PendingAction]:
        """The tool calls that wait for the client."""
        waiting = self._turn.waiting if self._turn else []
        return [PendingAction(id=call.id, name=call.name, kind=call.awaits) for call in waiting]

    @workflow.query(name=USAGE_QUERY)
    def usage(self) -> Usage:
        """Tokens of the whole session, the turn in progress included."""
        return self._usage + self._turn.usage if self._turn else self._usage

    @workflow.query(name=AGENT_STATE_QUERY)
    def agent_state(self) -> AgentState:
        """The agent's snapshot and the session's counters."""
        return AgentState(agent=self._agent, seq=self._journal.cursor.seq, turns=self._turns, queued=len(self._queue))

    def _details(self) -> str:
        turn = self._turn
        return describe(
            self._board.status,
            reason=self._board.stop_reason,
            turn=self._turns,
            step=turn.steps if turn else 0,
            queued=len(self._queue),
            heard=self._heard,
            said=(turn.said if turn else "") or self._said,
            waiting=turn.waiting if turn else (),
            trouble=self._exporter.trouble,
        )
