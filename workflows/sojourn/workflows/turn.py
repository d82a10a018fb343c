"""One turn: model step, tool calls, model step … until the agent has no more calls to make.

The turn is driven by one coroutine. Signal handlers only change its state (`interrupt`, `confirm`, `answer`) and the
coroutine looks at it whenever the workflow wakes up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

from sojourn.workflows.activity import (
    model_failure,
    start_call_model,
    start_compact_context,
)
from sojourn.workflows.backoff import retry_delay
from sojourn.workflows.board import StatusBoard
from sojourn.workflows.call import Call, Calls
from sojourn.workflows.failure import TurnFailedError, does_not_fit, error_event
from sojourn.workflows.journal import Journal
from sojourn.workflows.ledger import Ledger
from sojourn.workflows.mcp import McpServers
from sojourn.workflows.notice import warning
from sojourn.workflows.tool_run import ToolRunner
from sojourn.workflows.watch import BUDGET, MAX_STEPS, MODEL_ATTEMPTS, Watch
from sojourn.workflows.workspace import Workspace

with workflow.unsafe.imports_passed_through():
    from sojourn.types.agent import AgentDefinition
    from sojourn.types.event import (
        ModelRequestEnd,
        SessionIdle,
        SessionRescheduled,
        SessionRunning,
        SessionUsage,
        ToolResultEvent,
        UserCustomToolResult,
        UserToolConfirmation,
        UserToolResult,
    )
    from sojourn.types.failure import ModelFailure
    from sojourn.types.id import EventId
    from sojourn.types.record import (
        CallModelInput,
        CallModelResult,
        CompactContextInput,
        CompactContextResult,
        Warned,
    )
    from sojourn.types.session import (
        BudgetReached,
        EndTurn,
        MaxTokens,
        Refusal,
        RequiresAction,
        SessionStatus,
        StopReason,
        TurnState,
    )
    from sojourn.types.usage import Usage

T = TypeVar("T")

Answer = UserToolConfirmation | UserCustomToolResult | UserToolResult


class Turn:
    """One turn of a session, from its message to its stop reason."""

    def __init__(
        self,
        state: TurnState,
        *,
        agent: AgentDefinition,
        journal: Journal,
        board: StatusBoard,
        session_usage: Usage,
        account: Ledger,
        roll_over_due: Callable[[], bool],
        on_change: Callable[[], None],
        watch: Watch,
        workspace: Workspace,
        skips: Callable[[], bool],
        mcp: McpServers,
        title: str,
    ) -> None:
        self._limits = agent.limits
        self._may_compact = agent.compaction.enabled
        self._journal = journal
        self._board = board
        self._session_usage = session_usage
        self._account = account
        self._roll_over_due = roll_over_due
        self._on_change = on_change
        self._watch = watch
        self._workspace = workspace
        self._skips = skips
        self._mcp = mcp
        self._servers_asked = state.steps > 0
        self._listed = False
        self._title = title
        self._notify = state.notify
        self._steps = state.steps
        self._usage = state.usage
        self._consumes = state.consumes
        self.calls = Calls.carried(state.calls, now=workflow.now())
        """The tool calls of the current step."""
        self._compact_due = state.compact
        self._compact_failed = False
        self._compacted = False
        self._attempts = 0
        # A signal is handled before the activity's result that came in the same workflow task.
        self._early: list[Answer] = []
        self._stepping = False
        self.interrupted = False
        self._tools = ToolRunner(self, limits=agent.limits, journal=journal, watch=watch, workspace=workspace, mcp=mcp)
        self._in_flight: set[asyncio.Task[object]] = set()
        self.said = ""
        """The agent's last words, for people who look at the Web UI."""

    @property
    def steps(self) -> int:
        """Model steps begun."""
        return self._steps

    @property
    def notify(self) -> bool:
        """Whether a hook wants to know of the end."""
        return self._notify

    @property
    def usage(self) -> Usage:
        """Tokens of this turn so far."""
        return self._usage

    @property
    def waiting(self) -> list[Call]:
        """The calls that only the client can move on."""
        return self.calls.waiting

    def state(self) -> TurnState:
        """What the next run must know to go on."""
        return TurnState(
            steps=self._steps,
            usage=self._usage,
            consumes=self._consumes,
            calls=self.calls.carry(),
            compact=self._compact_due,
            notify=self._notify,
        )

    def interrupt(self) -> None:
        """End the turn: cancel what is in flight and keep what it has produced."""
        self.interrupted = True
        for task in self._in_flight:
            task.cancel()

    @property
    def wants_work(self) -> bool:
        """Whether calls wait for a worker of the user's own."""
        return any(call.place == "client" for call in self.calls.waiting)

    def take(self, event: Answer) -> None:
        """Take the client's answer to a call. One that overtakes the model's result is kept until that comes."""
        if self._stepping:
            self._early.append(event)
        elif isinstance(event, UserCustomToolResult | UserToolResult):
            if answered := self.calls.answer(event):
                self._watch.tool_settled(answered, "error" if event.is_error else "ok")
        elif denied := self.calls.confirm(event):
            self.settle(denied, denied.result("denied"))

    async def run(self) -> StopReason | None:
        """Run to the end of the turn.

        Returns:
            Why it ended, or ``None`` if it is to go on in a new run from `state`.

        Raises:
            TurnFailedError: The model cannot be reached or refused, or a limit was met.
        """
        while True:
            if not await self._settle_calls():
                return None
            if self.interrupted:
                return EndTurn()
            if not await self._may_step():
                return None
            if self.interrupted:
                return EndTurn()
            if await self._listed_tools():
                continue
            # Sessions that began before there was compaction, and have got past this place, go on without.
            if self._compact_due and workflow.patched("compaction"):
                await self._compact()
                continue
            result = await self._model_step()
            if result is None or self.interrupted:
                self._close(self.calls.open)
                return EndTurn()
            if not result.calls:
                return _stop_reason(result)

    async def _listed_tools(self) -> bool:
        """Have the tools of MCP servers listed if that is due. True if so: much may have happened meanwhile."""
        due = self._mcp.due(turn_begins=not self._servers_asked)
        self._servers_asked = True
        if due and await self._mcp.list_tools(due, self.tracked):
            self._listed = True
        return bool(due)

    async def _may_step(self) -> bool:
        """Wait while paused. False when the run should give way to the next first."""
        if self._steps >= self._limits.max_steps:
            self._watch.limit_met(MAX_STEPS)
            text = f"the turn used all of its {self._limits.max_steps} model steps; raise limits.max_steps"
            raise TurnFailedError(ModelFailure(kind="fatal", message=text), error_type="tool_use_limit_reached_error")
        if not await self._afford():
            return False
        return await self._gate() and (self.interrupted or not self._roll_over_due())

    async def _afford(self, *, gives_way: bool = True) -> bool:
        """Wait while the budget is used up. False when the run should give way to the next first.

        A session without a budget does not get to anything here that its history could hold.
        """
        if not self._account.is_exhausted and not self._is_broke:
            return True
        while self._account.is_exhausted and not self.interrupted:
            if gives_way and self._roll_over_due():
                return False
            if not self._is_broke:
                self._watch.limit_met(BUDGET)
            self._report_idle(BudgetReached())
            await workflow.wait_condition(
                lambda: not self._account.is_exhausted or self.interrupted or (gives_way and self._roll_over_due())
            )
        if not self.interrupted:
            self._board.move(SessionStatus.RUNNING)
            self._journal.say(SessionRunning())
        return True

    @property
    def _is_broke(self) -> bool:
        """Whether the session rests at its budget, as the run before may have left it."""
        return self._board.below is SessionStatus.IDLE and isinstance(self._board.stop_reason, BudgetReached)

    @property
    def _held(self) -> bool:
        return self._board.status is SessionStatus.PAUSED and not self.interrupted

    async def _gate(self) -> bool:
        """Wait while paused. False when the pause goes on and the run should give way to the next."""
        # Even a condition that holds yields, and what has been said would not ride along with the next activity.
        if self._held:
            await workflow.wait_condition(lambda: not self._held or self._roll_over_due())
        return not self._held

    # --- the model -------------------------------------------------------------------------------------------------

    async def _model_step(self) -> CallModelResult | None:
        """One step with its retries. ``None`` if an interrupt left nothing to keep."""
        self._steps += 1
        self._attempts = 0
        self._on_change()
        try:
            return await self._attempted(self._call_model)
        except TurnFailedError as error:
            refused = error
        if not (refused.failure.too_long and self._may_compact and workflow.patched("compaction")):
            raise refused
        self._journal.say(error_event(refused, retry="retrying"))
        await self._make_room(refused.failure)
        await self._afford(gives_way=False)
        if self._held:
            await workflow.wait_condition(lambda: not self._held)
        if self.interrupted:
            return None
        try:
            return await self._attempted(self._call_model)
        except TurnFailedError as error:
            if error.failure.too_long:
                raise does_not_fit(error.failure, "it is too long even compacted") from None
            raise

    async def _attempted(self, call: Callable[[int], Awaitable[T]]) -> T | None:
        """Make a model call until it is answered. ``None`` if an interrupt left nothing to keep.

        Raises:
            TurnFailedError: It failed for good; the log has the end of the request, and not yet the error.
        """
        while True:
            self._attempts += 1
            try:
                return await call(self._attempts)
            except ActivityError as error:
                if self.interrupted:
                    self._journal.say(ModelRequestEnd(model_request_start_id=EventId(error.activity_id), is_error=True))
                    return None
                await self._recover(error, self._attempts)
                if self.interrupted:
                    return None

    async def _call_model(self, attempt: int) -> CallModelResult | None:
        step = EventId(f"sevt_{workflow.uuid7().hex}")
        record = CallModelInput(
            step=step,
            consumes=self._consumes,
            attempt=attempt,
            skip_permissions=self._skips(),
            compacted=self._compacted,
            listed=self._listed,
            said=self._journal.take(),
        )
        self._journal.count(record)
        self._consumes = ()
        summary = f"{self._title} · step {self._steps}" + (f", attempt {attempt}" if attempt > 1 else "")
        handle = start_call_model(record, timeout=self._limits.model_timeout, summary=summary)
        self._stepping = True
        try:
            result = await self.tracked(handle)
        finally:
            self._stepping = False
        self._journal.count(result)
        self.warn(result.warnings)
        self._notify = self._notify or result.notify
        self._usage += result.usage
        self._account.charge(result.cost_microcents)
        self._compacted, self._compact_due = False, result.compact and not self._compact_failed
        self._listed = False
        self.calls = Calls.asked(result.calls, at=workflow.now())
        early, self._early = self._early, []
        for event in early:
            self.take(event)
        self._on_change()
        self.said = next((part.text for part in reversed(result.parts) if part.type == "text"), self.said)
        return result

    async def _recover(self, error: ActivityError, attempt: int) -> None:
        """Say what went wrong and wait for the next attempt, or give up."""
        failure = model_failure(error)
        self._journal.say(ModelRequestEnd(model_request_start_id=EventId(error.activity_id), is_error=True))
        delay = self._delay(failure, attempt)
        self._watch.model_failed(failure, step=EventId(error.activity_id), attempt=attempt, retry_in=delay)
        if delay is None:
            raise TurnFailedError(failure)
        self._journal.say(error_event(TurnFailedError(failure), retry="retrying"), SessionRescheduled())
        self._board.move(SessionStatus.RESCHEDULING)
        await self._interruptible_sleep(delay)
        await workflow.wait_condition(lambda: not self._held)
        self._board.move(SessionStatus.RUNNING)
        if not self.interrupted:
            self._journal.say(SessionRunning())

    def _delay(self, failure: ModelFailure, attempt: int) -> timedelta | None:
        """How long to wait before the next attempt; ``None`` if there is to be none."""
        if not failure.may_retry:
            return None
        if attempt >= self._limits.model_attempts:
            self._watch.limit_met(MODEL_ATTEMPTS)
            return None
        return retry_delay(failure, attempt=attempt, first=self._limits.retry_interval)

    async def _interruptible_sleep(self, delay: timedelta) -> None:
        try:
            await workflow.wait_condition(
                lambda: self.interrupted, timeout=delay, timeout_summary="waiting to try the model again"
            )
        except TimeoutError:
            return

    # --- compaction ------------------------------------------------------------------------------------------------

    async def _compact(self) -> None:
        """Compact a conversation that still fits, before it no longer does. If that fails, it goes on as it is."""
        self._attempts = 0
        try:
            await self._attempted(self._call_compaction)
        except TurnFailedError as error:
            # Not tried again before the next turn: each try may take all attempts of a model call.
            self._compact_due, self._compact_failed = False, True
            text = f"the conversation could not be compacted and goes on whole: {error.failure.message}"
            failure = error.failure.model_copy(update={"message": text})
            self._journal.say(error_event(TurnFailedError(failure), retry="retrying"))

    async def _make_room(self, refused: ModelFailure) -> None:
        """Compact a conversation that has been refused as too long.

        Raises:
            TurnFailedError: It stays as long as it is.
        """
        tried, self._attempts = self._attempts, 0
        try:
            result = await self._attempted(lambda attempt: self._call_compaction(attempt, too_long=True))
        except TurnFailedError as error:
            raise does_not_fit(refused, f"compacting it failed, {error.failure.message}") from None
        self._attempts = tried
        if result is not None and not result.summary:
            raise does_not_fit(refused, "there is nothing to compact")
        if self._held:
            await workflow.wait_condition(lambda: not self._held)

    async def _call_compaction(self, attempt: int, *, too_long: bool = False) -> CompactContextResult:
        step = EventId(f"sevt_{workflow.uuid7().hex}")
        record = CompactContextInput(step=step, attempt=attempt, too_long=too_long, said=self._journal.take())
        self._journal.count(record)
        summary = f"compaction, {self._title}" + (f", attempt {attempt}" if attempt > 1 else "")
        handle = start_compact_context(record, timeout=self._limits.model_timeout, summary=summary)
        result = await self.tracked(handle)
        self._journal.count(result)
        self._usage += result.usage
        self._account.charge(result.cost_microcents)
        self._compacted, self._compact_due = self._compacted or bool(result.summary), False
        return result

    # --- tool calls ------------------------------------------------------------------------------------------------

    async def _settle_calls(self) -> bool:
        """Bring every call to its result. False when the run should give way to the next first."""
        for call in self.calls.open:
            if call.kind == "unknown":
                self.settle(call, call.result("error"))
            elif call.permission == "deny" and call.kind != "custom":
                self.settle(call, call.result("denied", call.refusal))
            elif call.refusal and workflow.patched("refused-calls"):
                self.settle(call, call.result("denied" if call.permission == "deny" else "error", call.refusal))
        # The run before was left parked; the answers may have come already.
        if self._board.below is SessionStatus.IDLE and not self._is_broke and not await self._park():
            return False
        while self.calls.open:
            if not await self._run_ready():
                return False
            if self.interrupted:
                self._close(self.calls.open)
            elif self.calls.waiting and not await self._park():
                return False
        return True

    async def _run_ready(self) -> bool:
        """Run what may run, in parallel, and what becomes ready meanwhile. False when the run should give way first."""
        if self.calls.ready and not await self._gate():
            return False
        running: set[asyncio.Task[None]] = set()
        while self._startable() or running:
            for call in self._startable():
                call.started = True
                running.add(asyncio.create_task(self._tools.run(call)))
            await workflow.wait_condition(lambda: any(task.done() for task in running) or bool(self._startable()))
            for task in [task for task in running if task.done()]:
                running.remove(task)
                task.result()
        return True

    def _startable(self) -> list[Call]:
        return [] if self.interrupted or self._held else self.calls.ready

    async def _park(self) -> bool:
        """Wait for the client until nothing waits any more. False when the run should give way first."""
        while self.calls.waiting and not self.interrupted:
            if self._roll_over_due():
                return False
            self._report_parked()
            await self._answer_or_deadline()
            for call in self.calls.expired(self._limits.custom_tool_timeout, now=workflow.now()):
                self.settle(call, call.result("timed_out"))
        if not self.interrupted:
            self._board.move(SessionStatus.RUNNING)
            self._journal.say(SessionRunning())
        return True

    def _report_parked(self) -> None:
        self._report_idle(RequiresAction(event_ids=tuple(call.id for call in self.calls.waiting)))

    def _report_idle(self, reason: StopReason) -> None:
        if self._board.stop_reason != reason:
            self._journal.say(self.usage_event(), SessionIdle(stop_reason=reason))
            self._board.move(SessionStatus.IDLE, reason)
            self._workspace.store()

    async def _answer_or_deadline(self) -> None:
        before = len(self.calls.waiting)
        deadline = self.calls.deadline(self._limits.custom_tool_timeout)
        timeout = None if deadline is None else max(deadline - workflow.now(), timedelta(0))
        try:
            await workflow.wait_condition(
                lambda: len(self.calls.waiting) < before or self.interrupted or self._roll_over_due(),
                timeout=timeout,
                timeout_summary="waiting for the client",
            )
        except TimeoutError:
            return

    # --- shared ----------------------------------------------------------------------------------------------------

    def usage_event(self) -> SessionUsage:
        """Tokens of the session and of this turn, up to now."""
        return self._account.usage_event(self._session_usage + self._usage, turn=self._usage)

    def settle(self, call: Call, result: ToolResultEvent) -> None:
        """Give a call its one result."""
        call.settled = True
        self._watch.tool_settled(call, result.outcome)
        self._journal.say(result)

    def warn(self, warnings: Sequence[Warned]) -> None:
        """Say which hooks have failed."""
        if warnings and workflow.patched("hook-warnings"):
            self._journal.say(*map(warning, warnings))

    def _close(self, calls: Iterable[Call]) -> None:
        for id, queue in self.calls.asking.items():
            self._mcp.abandon(id, queue)
        for call in calls:
            self.settle(call, call.result("interrupted"))

    async def tracked(self, handle: asyncio.Task[T]) -> T:
        """Await an activity, or what it needs, so that an interrupt can cancel it."""
        self._in_flight.add(handle)
        if self.interrupted:
            handle.cancel()
        try:
            return await handle
        finally:
            self._in_flight.discard(handle)


def _stop_reason(result: CallModelResult) -> StopReason:
    match result.finish_reason:
        case "max_tokens":
            return MaxTokens()
        case "refusal":
            return Refusal()
        case _:
            return EndTurn()
