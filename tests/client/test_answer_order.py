"""Whatever the order of the records, the client's reading of the log and the workflow agree on the calls that wait."""

from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sojourn.client.answer import Answer, OpenCalls
from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.content import TextBlock
from sojourn.types.event import (
    AgentToolResult,
    ModelRequestEnd,
    SaidEvent,
    SessionRunning,
    UserCustomToolResult,
    UserToolConfirmation,
    UserToolResult,
)
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.log import LogCursor
from sojourn.types.model import ModelRef
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    ToolCallPart,
    UserEvents,
)
from sojourn.types.session import Owner, SessionInput, SessionState, SessionStatus, TurnState
from sojourn.workflows.call import Calls

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SESSION = SessionId("sesn_1")
DEFINITION = AgentDefinition(name="a", model=ModelRef.of("scripted:echo"))
KINDS = st.sampled_from(
    [
        ("custom", "allow"),
        ("custom", "ask"),
        ("function", "ask"),
        ("function", "allow"),
        ("builtin", "ask"),
        ("builtin", "allow"),
    ]
)
"""Built-in tools are those of a self-hosted environment here: another worker than ours sends their results."""
STEPS = 3
CALLS = 3
TARGETS = st.tuples(st.integers(1, STEPS), st.integers(0, CALLS - 1))
"""Step and place of a call, made already or not."""


def call_id(step: int, place: int) -> EventId:
    return EventId(f"sevt_{step}_{place}")


class Session:
    """What `SessionWorkflow` and `Turn` do with answers, around the calls themselves."""

    def __init__(self) -> None:
        self.cursor = LogCursor(SESSION)
        self.calls = Calls()
        self.stepping = False
        self.early: list[Answer] = []

    def signal(self, record: UserEvents) -> list[SaidEvent]:
        """Take answers; what is said about them."""
        events = self.cursor.accept(record)
        return [said for event in events if isinstance(event, Answer) for said in self.take(event)]

    def take(self, event: Answer) -> list[SaidEvent]:
        if self.stepping:
            self.early.append(event)
        elif isinstance(event, UserCustomToolResult | UserToolResult):
            self.calls.answer(event)
        elif denied := self.calls.confirm(event):
            return [self.settle(denied.id, "denied")]
        return []

    def settle(self, id: EventId, outcome: str) -> AgentToolResult:
        call = next(each for each in self.calls.open if each.id == id)
        call.settled = True
        return AgentToolResult.model_validate({"tool_use_id": id, "is_error": True, "outcome": outcome})

    def result(self, record: CallModelResult) -> list[SaidEvent]:
        self.stepping, self.calls = False, Calls.asked(record.calls, at=NOW)
        early, self.early = self.early, []
        return [said for event in early for said in self.take(event)]


class Orders(RuleBasedStateMachine):
    """Records in every order that the server can write them, to the workflow and to those who read along."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.readers = [OpenCalls()]
        """One that reads from the start, and one for each run from its beginning on."""
        self.steps = 0
        self.said: list[SaidEvent] = []
        """What the workflow has said and not stored; it rides with its next record."""

    def write(self, record: Record) -> None:
        for reader in self.readers:
            reader.feed(record)

    def taken(self) -> tuple[SaidEvent, ...]:
        said, self.said = tuple(self.said), []
        return said

    @precondition(lambda self: not self.session.stepping and not self.session.calls.open and self.steps < STEPS)
    @rule(new_turn=st.booleans())
    def step_begins(self, new_turn: bool) -> None:
        if new_turn:
            self.said.append(SessionRunning(user_event_id=EventId("sevt_m")))
            self.session.early = []
        self.session.stepping = True
        self.write(CallModelInput(step=EventId("sevt_s"), said=self.taken()))

    @precondition(lambda self: self.session.stepping)
    @rule(kinds=st.lists(KINDS, max_size=CALLS))
    def step_ends(self, kinds: list[tuple[str, str]]) -> None:
        self.steps += 1
        parts = [
            ToolCallPart.model_validate(
                {
                    "id": call_id(self.steps, place),
                    "call_id": "c",
                    "name": "n",
                    "input": {},
                    "kind": kind,
                    "permission": permission,
                    "place": "client" if kind == "builtin" else None,
                }
            )
            for place, (kind, permission) in enumerate(kinds)
        ]
        record = CallModelResult(step=EventId("sevt_s"), parts=tuple(parts))
        self.write(record)
        self.said += self.session.result(record)

    @precondition(lambda self: self.session.stepping)
    @rule()
    def step_fails(self) -> None:
        self.session.stepping = False
        self.write(Said(said=(ModelRequestEnd(model_request_start_id=EventId("sevt_s"), is_error=True),)))

    @rule(answers=st.lists(st.tuples(TARGETS, st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=3))
    def answers_come(self, answers: list[tuple[tuple[int, int], int, int]]) -> None:
        """Right or wrong, early or late, some of them twice: few ids for many events."""
        events: list[Answer] = []
        for (step, place), kind, number in answers:
            id, event_id = call_id(step, place), EventId(f"sevt_u{number}" if number else "")
            if kind == 2:
                content = (TextBlock(text="42"),)
                events.append(UserCustomToolResult(id=event_id, custom_tool_use_id=id, content=content))
            elif kind == 3:
                events.append(UserToolResult(id=event_id, tool_use_id=id, content=(TextBlock(text="42"),)))
            else:
                events.append(UserToolConfirmation(id=event_id, tool_use_id=id, result="deny" if kind else "allow"))
        record = UserEvents(sent=tuple(events))
        self.write(record)
        self.said += self.session.signal(record)

    @precondition(lambda self: self.session.calls.ready)
    @rule(pick=st.integers(0, CALLS))
    def tool_runs(self, pick: int) -> None:
        ready = self.session.calls.ready
        call = ready[pick % len(ready)]
        call.started = True
        self.write(RunToolInput(tool_use_id=call.id, name=call.name, said=self.taken()))

    @precondition(lambda self: any(call.started for call in self.session.calls.open))
    @rule(pick=st.integers(0, CALLS), lost=st.booleans())
    def tool_ends(self, pick: int, lost: bool) -> None:
        running = [call for call in self.session.calls.open if call.started]
        call = running[pick % len(running)]
        if lost:
            self.said.append(self.session.settle(call.id, "unknown"))
        else:
            call.settled = True
            self.write(RunToolResult(tool_use_id=call.id))

    @precondition(lambda self: self.session.calls.open)
    @rule(pick=st.integers(0, CALLS), every=st.booleans())
    def time_is_up(self, pick: int, every: bool) -> None:
        """One custom tool's, or an interrupt ends them all."""
        open = self.session.calls.open
        for call in open if every else [open[pick % len(open)]]:
            self.said.append(self.session.settle(call.id, "interrupted" if every else "timed_out"))

    @rule()
    def flush(self) -> None:
        if self.said:
            self.write(Said(said=self.taken()))

    @precondition(lambda self: not self.session.stepping and not any(call.started for call in self.session.calls.open))
    @rule()
    def roll_over(self) -> None:
        self.flush()
        states = self.session.calls.carry()
        self.session.calls = Calls.carried(states, now=NOW)
        self.session.early = []
        turn = TurnState(calls=states) if states else None
        state = SessionState(
            seq=self.session.cursor.seq,
            user_events=self.session.cursor.user_events,
            seen=self.session.cursor.seen,
            status=SessionStatus.IDLE,
            turn=turn,
        )
        agent = AgentVersion(id=AgentId("agent_1"), version=1, definition=DEFINITION)
        reader = OpenCalls()
        reader.begin(SessionInput(session_id=SESSION, owner=Owner("acme", "ada"), agent=agent, state=state))
        self.readers.append(reader)

    @invariant()
    def all_say_the_same(self) -> None:
        """As soon as what was said is stored, which is before anybody else can look."""
        self.flush()
        waiting = [call.id for call in self.session.calls.waiting]
        assert [[action.id for action in reader.pending] for reader in self.readers] == [waiting] * len(self.readers)


TestOrders = Orders.TestCase
TestOrders.settings = settings(TestOrders.settings, max_examples=60, stateful_step_count=30)
