"""Which answers a session waits for: known from its log, so that a wrong one can be refused before it is sent."""

from dataclasses import dataclass, field

from sojourn.types.error import InvalidRequestError, ToolCallNotFoundError, ToolCallSettledError
from sojourn.types.event import (
    AgentMcpToolResult,
    AgentToolResult,
    ModelRequestEnd,
    SaidEvent,
    SessionRunning,
    UserCustomToolResult,
    UserEvent,
    UserToolConfirmation,
)
from sojourn.types.history import cursor_at
from sojourn.types.id import EventId, SessionId
from sojourn.types.log import LogCursor, digest
from sojourn.types.mcp import ELICITATION, McpOutcome
from sojourn.types.record import CallModelInput, CallModelResult, Record, RunToolInput, RunToolResult, UserEvents
from sojourn.types.session import PendingAction, SessionInput

Answer = UserToolConfirmation | UserCustomToolResult


@dataclass
class _Call:
    name: str
    custom: bool
    asks: bool
    settled: bool = False
    approved: bool = False

    @property
    def waits(self) -> bool:
        return (self.custom or self.asks) and not (self.settled or self.approved)


@dataclass
class OpenCalls:
    """The tool calls of the current step. Feed it a run's input and records, in order; then the next run's records."""

    _calls: dict[EventId, _Call] = field(default_factory=dict)
    _answers: dict[EventId, Answer] = field(default_factory=dict)
    """The answers that counted."""
    _past: set[EventId] = field(default_factory=set)
    """Calls of earlier steps."""
    _seen: set[str] = field(default_factory=set)
    """Digests of the client events so far."""
    _cursor: LogCursor = field(default_factory=lambda: LogCursor(SessionId("")))
    """Tells which events are repeats, which the workflow does not take again."""
    _stepping: bool = False
    _early: list[Answer] = field(default_factory=list)
    """Answers that stand before the model's result: a server may turn the two round. The workflow keeps them too."""
    begun: bool = False
    continued: bool = False
    """Whether there are runs before the first one that was fed, which may know more."""

    def begin(self, start: SessionInput) -> None:
        """Take what the run before has left open."""
        self.begun, self.continued = True, start.state is not None
        self._cursor = cursor_at(start)
        turn = start.state.turn if start.state else None
        self._seen.update(start.state.seen if start.state else ())
        for call in turn.calls if turn else ():
            self._calls[call.id] = _Call(
                call.name, call.kind == "custom", call.permission == "ask", call.settled, call.approved
            )

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
                self._calls |= {each.id: _Call(ELICITATION, custom=True, asks=False) for each in questions}
            case RunToolInput():
                self._approve(record.tool_use_id)
            case _:
                pass

    @property
    def pending(self) -> list[PendingAction]:
        """The calls that wait for an answer, in the model's order."""
        return [
            PendingAction(id=id, name=call.name, kind="custom_tool_result" if call.custom else "confirmation")
            for id, call in self._calls.items()
            if call.waits
        ]

    def admit(self, answer: Answer) -> bool:
        """Whether the answer is news. One equal to the answer already given is not.

        Raises:
            InvalidRequestError: The call takes another kind of answer.
            ToolCallNotFoundError: No such call waits.
            ToolCallSettledError: It has another answer, or its result, already.
        """
        id = target(answer)
        call = self._calls.get(id)
        given = self._answers.get(id)
        if answer.id and digest(answer.id) in self._seen:
            return False
        if given is not None and given == answer.model_copy(update={"id": given.id}):
            return False
        if call is None:
            raise ToolCallSettledError(id) if given is not None or id in self._past else ToolCallNotFoundError(id)
        if call.settled or call.approved:
            raise ToolCallSettledError(id)
        self._check_kind(answer, call)
        self._hear(answer)
        return True

    def _hear(self, event: UserEvent) -> None:
        """Take a client event of the log. As in the workflow, the first answer of the right kind counts."""
        if event.id:
            self._seen.add(digest(event.id))
        if not isinstance(event, UserToolConfirmation | UserCustomToolResult):
            return
        if self._stepping:
            self._early.append(event)
            return
        call = self._calls.get(target(event))
        if call is not None and call.waits and call.custom is isinstance(event, UserCustomToolResult):
            self._answers[target(event)] = event
            allowed = isinstance(event, UserToolConfirmation) and event.result == "allow"
            call.approved, call.settled = allowed, not allowed

    def _step(self, result: CallModelResult) -> None:
        self._past |= self._calls.keys()
        self._calls = {
            call.id: _Call(call.name, call.kind == "custom", call.permission == "ask") for call in result.calls
        }
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
        if isinstance(answer, UserCustomToolResult) and not call.custom:
            text = f"{call.name!r} runs on the worker and takes no result; confirm it with user.tool_confirmation"
            raise InvalidRequestError(text, param="custom_tool_use_id")
        if isinstance(answer, UserToolConfirmation) and (call.custom or not call.asks):
            need = "a result with user.custom_tool_result" if call.custom else "no confirmation"
            raise InvalidRequestError(f"{call.name!r} takes {need}", param="tool_use_id")

    def _settle(self, id: EventId) -> None:
        if id in self._calls:
            self._calls[id].settled = True

    def _approve(self, id: EventId) -> None:
        if id in self._calls:
            self._calls[id].approved = True


def target(answer: Answer) -> EventId:
    """The call that the answer is for."""
    return answer.tool_use_id if isinstance(answer, UserToolConfirmation) else answer.custom_tool_use_id


def answers(events: list[UserEvent]) -> list[Answer]:
    """Those events that answer calls."""
    return [event for event in events if isinstance(event, UserToolConfirmation | UserCustomToolResult)]
