"""Which answers a session waits for: known from its log, so that a wrong one can be refused before it is sent."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sojourn.types.error import InvalidRequestError, ToolCallNotFoundError, ToolCallSettledError
from sojourn.types.event import (
    AgentMcpToolResult,
    AgentToolResult,
    ModelRequestEnd,
    Remember,
    SaidEvent,
    SessionRunning,
    UserCustomToolResult,
    UserEvent,
    UserToolConfirmation,
    UserToolResult,
)
from sojourn.types.history import cursor_at
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.log import LogCursor, digest
from sojourn.types.mcp import ELICITATION, McpOutcome
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    Record,
    RunToolInput,
    RunToolResult,
    ToolCallPart,
    UserEvents,
)
from sojourn.types.rule import WORKING_DIR, Rule, ToolUse, exact_rule
from sojourn.types.session import CallState, PendingAction, PendingKind, SessionInput

Answer = UserToolConfirmation | UserCustomToolResult | UserToolResult

_TYPES: dict[PendingKind, str] = {
    "confirmation": "tool_confirmation",
    "custom_tool_result": "custom_tool_result",
    "tool_result": "tool_result",
}


@dataclass
class _Call:
    name: str
    custom: bool
    """The client runs it."""
    remote: bool
    """A worker of the user's own runs it, in a self-hosted environment."""
    asks: bool
    settled: bool = False
    approved: bool = False
    part: ToolCallPart | None = None
    """``None`` for what a run took over from the one before."""

    @classmethod
    def of(cls, call: ToolCallPart | CallState) -> "_Call":
        part = call if isinstance(call, ToolCallPart) else None
        return cls(call.name, call.kind == "custom", call.place == "client", call.permission == "ask", part=part)

    @property
    def unconfirmed(self) -> bool:
        return self.asks and not (self.custom or self.approved)

    @property
    def waits(self) -> bool:
        return not self.settled and (self.custom or self.remote or self.unconfirmed)

    @property
    def awaits(self) -> PendingKind:
        if self.unconfirmed:
            return "confirmation"
        return "tool_result" if self.remote else "custom_tool_result"


@dataclass
class OpenCalls:
    """The tool calls of the current step. Feed it a run's input and records, in order; then the next run's records."""

    _calls: dict[EventId, _Call] = field(default_factory=dict)
    _answers: dict[tuple[EventId, str], Answer] = field(default_factory=dict)
    """The answers that counted, by call and kind."""
    _past: set[EventId] = field(default_factory=set)
    """Calls of earlier steps."""
    _seen: set[str] = field(default_factory=set)
    """Digests of the client events so far."""
    _cursor: LogCursor = field(default_factory=lambda: LogCursor(SessionId("")))
    """Tells which events are repeats, which the workflow does not take again."""
    _stepping: bool = False
    _early: list[Answer] = field(default_factory=list)
    """Answers that stand before the model's result: a server may turn the two round. The workflow keeps them too."""
    _start: SessionInput | None = None
    begun: bool = False
    continued: bool = False
    """Whether there are runs before the first one that was fed, which may know more."""

    def begin(self, start: SessionInput) -> None:
        """Take what the run before has left open."""
        self.begun, self.continued = True, start.state is not None
        self._start = start
        self._cursor = cursor_at(start)
        turn = start.state.turn if start.state else None
        self._seen.update(start.state.seen if start.state else ())
        for call in turn.calls if turn else ():
            known = self._calls[call.id] = _Call.of(call)
            known.settled, known.approved = call.settled, call.approved

    def feed(self, record: Record) -> None:
        """Take the next record."""
        # What rides with a record was said before it.
        for event in getattr(record, "said", ()):
            self._take(event)
        match record:
            case CallModelInput():
                self._stepping = True
            case CallModelResult():
                self._step(record)
            case UserEvents():
                for event in self._cursor.accept(record):
                    self._hear(event)
            case RunToolResult() if record.is_final:
                self._settle(record.tool_use_id)
            case RunToolResult(mcp=McpOutcome(questions=questions)):
                self._calls |= {
                    each.id: _Call(ELICITATION, custom=True, remote=False, asks=False) for each in questions
                }
            case RunToolInput():
                self._approve(record.tool_use_id)
            case _:
                pass

    @property
    def pending(self) -> list[PendingAction]:
        """The calls that wait for an answer, in the model's order."""
        return [
            PendingAction(id=id, name=call.name, kind=call.awaits) for id, call in self._calls.items() if call.waits
        ]

    def knows(self, id: EventId) -> bool:
        """Whether the log that was fed tells what the call is."""
        return id in self._calls and self._calls[id].part is not None

    def rules(self, confirmed: list[UserToolConfirmation]) -> Iterator[tuple[Remember, AgentId, Rule]]:
        """What is to be allowed from now on, for whom, and the agent of the session.

        Raises:
            InvalidRequestError: A call is too long to be remembered.
            ToolCallNotFoundError: No such call is there.
        """
        for event in confirmed:
            part = self._calls[event.tool_use_id].part if self.knows(event.tool_use_id) else None
            if part is None or self._start is None or event.remember is None:
                raise ToolCallNotFoundError(event.tool_use_id)
            cwd = self._start.environment.working_dir or WORKING_DIR
            if (rule := exact_rule(ToolUse(part.name, part.input, cwd=cwd))) is None:
                text = f"remember: the call of {part.name!r} is too long to be remembered; allow it once"
                raise InvalidRequestError(text, param="remember")
            yield event.remember, self._start.agent.id, rule

    def admit(self, answer: Answer) -> bool:
        """Whether the answer is news. One equal to the answer already given is not.

        Raises:
            InvalidRequestError: The call takes another kind of answer.
            ToolCallNotFoundError: No such call waits.
            ToolCallSettledError: It has another answer, or its result, already.
        """
        id = target(answer)
        call = self._calls.get(id)
        given = self._answers.get((id, answer.type))
        if answer.id and digest(answer.id) in self._seen:
            return False
        if given is not None and given == answer.model_copy(update={"id": given.id}):
            return False
        if call is None:
            raise ToolCallSettledError(id) if given is not None or id in self._past else ToolCallNotFoundError(id)
        if call.settled or (call.approved and not (call.remote and isinstance(answer, UserToolResult))):
            raise ToolCallSettledError(id)
        self._check_kind(answer, call)
        self._hear(answer)
        return True

    def _hear(self, event: UserEvent) -> None:
        """Take a client event of the log. As in the workflow, the first answer of the right kind counts."""
        if event.id:
            self._seen.add(digest(event.id))
        if not isinstance(event, Answer):
            return
        if self._stepping:
            self._early.append(event)
            return
        call = self._calls.get(target(event))
        if call is not None and call.waits and event.type == f"user.{_TYPES[call.awaits]}":
            self._answers[target(event), event.type] = event
            allowed = isinstance(event, UserToolConfirmation) and event.result == "allow"
            call.approved, call.settled = allowed, not allowed

    def _step(self, result: CallModelResult) -> None:
        self._past |= self._calls.keys()
        self._calls = {call.id: _Call.of(call) for call in result.calls}
        self._stepping = False
        early, self._early = self._early, []
        for event in early:
            self._hear(event)

    def _take(self, event: SaidEvent) -> None:
        match event:
            case AgentToolResult() | AgentMcpToolResult():
                self._settle(event.tool_use_id)
            case ModelRequestEnd():
                # The workflow itself says it of a call that failed; the next may come, or the turn end.
                self._stepping = False
            case SessionRunning() if event.user_event_id is not None:
                self._early = []
            case _:
                pass

    def _check_kind(self, answer: Answer, call: _Call) -> None:
        if isinstance(answer, UserToolResult):
            self._check_remote(call)
        if isinstance(answer, UserCustomToolResult) and not call.custom:
            text = f"{call.name!r} runs on the worker and takes no result; confirm it with user.tool_confirmation"
            raise InvalidRequestError(text, param="custom_tool_use_id")
        if isinstance(answer, UserToolConfirmation) and (call.custom or not call.asks):
            need = "a result with user.custom_tool_result" if call.custom else "no confirmation"
            raise InvalidRequestError(f"{call.name!r} takes {need}", param="tool_use_id")

    def _check_remote(self, call: _Call) -> None:
        if not call.remote:
            text = f"{call.name!r} takes no user.tool_result, which is for the tools of self-hosted environments"
            raise InvalidRequestError(text, param="tool_use_id")
        if call.unconfirmed:
            text = f"{call.name!r} has not been allowed yet; wait for its user.tool_confirmation"
            raise InvalidRequestError(text, param="tool_use_id")

    def _settle(self, id: EventId) -> None:
        if id in self._calls:
            self._calls[id].settled = True

    def _approve(self, id: EventId) -> None:
        if id in self._calls:
            self._calls[id].approved = True


def target(answer: Answer) -> EventId:
    """The call that the answer is for."""
    return answer.custom_tool_use_id if isinstance(answer, UserCustomToolResult) else answer.tool_use_id


def remembered(events: list[UserEvent]) -> list[UserToolConfirmation]:
    """Those events that allow a call for longer."""
    return [event for event in events if isinstance(event, UserToolConfirmation) and event.remember is not None]


def answers(events: list[UserEvent]) -> list[Answer]:
    """Those events that answer calls."""
    return [event for event in events if isinstance(event, Answer)]
