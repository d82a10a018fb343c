"""Random programs against a real server: what clients, models, tools and workers do, in any order.

A model of the session (`tests.machine.model`) says after each step what log, status and pending actions must be.
``SOJOURN_MACHINE_PROGRAMS`` sets how many programs are run; `make machine` runs the long form.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.conftest import check_log
from tests.machine.model import ASK, CUSTOM, KINDS, LEGAL, LIVE, MOVES, Call, Model
from tests.machine.world import DEFINITION, STRANGER, Play, World, answer_to

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    ConflictError,
    NotFoundError,
    SessionEvent,
    SystemMessage,
    TextBlock,
    UserInterrupt,
    UserMessage,
)
from sojourn.types.event import ModelRequestStart
from sojourn.types.id import new_event_id
from sojourn.types.session import UpdateSessionInput
from sojourn.worker import EmbeddedServer

PROGRAMS = int(os.environ.get("SOJOURN_MACHINE_PROGRAMS", "4"))
STEPS = int(os.environ.get("SOJOURN_MACHINE_STEPS", "30"))
BATCH = 5
"""Programs in a row that hypothesis may vary; over long rows it tries near duplicates."""

CLIENT = st.integers(0, 2)
PICK = st.integers(0, 99)
SAY = {"end_turn": "stop", "max_tokens": "max_tokens", "refusal": "refusal"}


TRIFLES = ["send_again", "send_note", "update", "answer_unknown", "read", "be_somebody_else"]


class SessionMachine(RuleBasedStateMachine):
    """One session, three clients, one worker."""

    world: World
    legal: Mapping[str, frozenset[str]] = LEGAL
    told: Counter[str]
    """How often each kind of event was told, over all programs."""
    races: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.given: list[tuple[Call, str, str]] = []
        self.restarts = 0
        self.moves = 0
        self.agents = 0
        self.seen = "queued"
        self.sound = True

    @initialize(max_events=st.sampled_from([20, 30, 60, 1500]))
    def begin(self, max_events: int) -> None:
        self.play = Play(self.world, Model(legal=self.legal), max_events=max_events)

    # --- messages --------------------------------------------------------------------------------------------------

    @rule(client=CLIENT, number=st.integers(1, 2))
    def send(self, client: int, number: int) -> None:
        ids = [new_event_id() for _ in range(number)]
        messages = [UserMessage.text("go on", id=id) for id in ids]
        if self.moved("send", self.play.world.runtimes[client].send_event(self.handle(client), *messages)):
            self.sent += ids
            self.model.send(*ids)
        self.settle()

    def send_again(self, client: int, pick: int) -> None:
        """The same event through another client is no other event."""
        if not self.sent:
            return
        message = UserMessage.text("go on", id=self.sent[pick % len(self.sent)])
        refusal = self.refusal("send")
        if refusal is ConflictError:
            # It was stored when that was legal. A server that remembers says so, another that the session is closed.
            self.unchanged(self.play.together(self.handle(client).send(message)), None)
        else:
            self.unchanged(self.handle(client).send(message), refusal)

    @rule(same=st.booleans())
    def send_from_two_clients(self, same: bool) -> None:
        if self.refusal("send"):
            return
        first = new_event_id()
        second = first if same else new_event_id()
        self.all_well(
            *(self.handle(at).send(UserMessage.text("go on", id=id)) for at, id in enumerate((first, second)))
        )
        self.sent += [first, second]
        orders = [[first]] if same else [[first, second], [second, first]]
        models = []
        for order in orders:
            for at_once in (False, True):
                models.append(self.model.copy())
                for ids in [order] if at_once else [[id] for id in order]:
                    models[-1].send(*ids)
        self.play.model, *others = models
        self.settle(*others)

    def send_note(self, client: int, pick: int) -> None:
        note = SystemMessage(content=(TextBlock(text="be brief"),))
        if self.moved("send", self.handle(client).send(note)):
            self.model.note()
        self.settle()

    @rule(client=CLIENT, then_send=st.booleans())
    def interrupt(self, client: int, then_send: bool) -> None:
        id = new_event_id() if then_send else ""
        events: list[Any] = [UserInterrupt(), *([UserMessage.text("go on", id=id)] if id else [])]
        if self.moved("interrupt", self.world.runtimes[client].send_event(self.handle(client), *events)):
            self.sent += [id] if id else []
            self.model.interrupt(then=id)
        self.settle()

    @rule(client=CLIENT, pick=PICK, what=st.sampled_from(TRIFLES))
    def trifle(self, what: str, client: int, pick: int) -> None:
        """What is always possible shares one rule, to leave room for the others."""
        getattr(self, what)(client, pick)

    # --- control ---------------------------------------------------------------------------------------------------

    @rule(verb=st.sampled_from(["pause", "resume"]), client=CLIENT, twice=st.booleans())
    def control(self, verb: str, client: int, twice: bool) -> None:
        """From two clients at the same time one wins, and the other one is told."""
        refusal = self.refusal(verb)
        acts = [getattr(self.handle((client + place) % 3), verb)() for place in range(1 + twice)]
        self.one_wins(refusal, acts, f"{verb} in {'no status' if self.play.deleted else self.model.status}")
        if not refusal:
            getattr(self.model, verb)()
        self.settle()

    def update(self, client: int, pick: int) -> None:
        change = UpdateSessionInput(title=str(pick), metadata={"title": str(pick)})
        if self.moved("update", self.handle(client).update(change)):
            self.model.update()
        self.settle()

    @rule(client=CLIENT)
    def change_agent(self, client: int) -> None:
        """Only between turns; the session goes on in a new run."""
        refusal = NotFoundError if self.play.deleted else self.model.refuses_agent()
        self.agents += 1
        definition = AgentDefinition.model_validate({**DEFINITION.model_dump(), "description": f"number {self.agents}"})
        version = self.run(self.play.agent.update(definition))
        self.attempt(self.handle(client).update(UpdateSessionInput(agent=version)), refusal)
        if refusal is None:
            self.model.update()
        self.settle()

    @precondition(lambda self: self.moves > STEPS // 2)
    @rule(client=CLIENT, twice=st.booleans())
    def archive(self, client: int, twice: bool) -> None:
        refusal = self.refusal("archive")
        acts = [self.handle((client + place) % 3).archive() for place in range(1 + twice)]
        self.one_wins(refusal, acts, "archive")
        if refusal is None:
            self.model.archive()
        self.settle()

    @precondition(lambda self: self.moves > STEPS * 2 // 3)
    @rule(client=CLIENT)
    def delete(self, client: int) -> None:
        self.attempt(self.handle(client).delete(), NotFoundError if self.play.deleted else None)
        self.play.deleted = True

    # --- what the model and the tools do ---------------------------------------------------------------------------

    @precondition(lambda self: self.steps_held)
    @rule(reason=st.sampled_from(sorted(SAY)), thinks=st.booleans())
    def model_speaks(self, reason: str, thinks: bool) -> None:
        self.release(ScriptedTurn(text="hello", thinking="hm" * thinks, finish_reason=SAY[reason]))  # type: ignore[arg-type]
        self.model.says(reason, thinks=thinks)
        self.settle()

    @precondition(lambda self: self.steps_held)
    @rule(names=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    def model_calls(self, names: list[str]) -> None:
        self.release(_calls(names))
        self.model.asks_for(names)
        self.settle()

    @precondition(lambda self: self.steps_held)
    @rule(names=st.lists(st.sampled_from([ASK, CUSTOM]), min_size=2, max_size=3))
    def model_asks(self, names: list[str]) -> None:
        self.model_calls(names)

    @precondition(lambda self: self.steps_held)
    @rule(how=st.sampled_from(["short", "long", "fatal"]))
    def model_fails(self, how: str) -> None:
        kind = "fatal" if how == "fatal" else "retryable"
        wait = timedelta(milliseconds=20) if how == "short" else timedelta(hours=1)
        self.release(ScriptedTurn(failure=ScriptedFailure(kind, retry_after=wait, attempts=999)))  # type: ignore[arg-type]
        self.model.fails(how)
        self.settle()

    @precondition(lambda self: self.steps_held)
    @rule()
    def model_writes_on_and_on(self) -> None:
        """Only an end from outside ends it, and keeps the half."""
        self.release(ScriptedTurn(text="half a sentence", stall=True))
        self.model.talks()
        self.settle()

    @precondition(lambda self: not self.play.deleted and self.model.running)
    @rule(pick=PICK, well=st.booleans())
    def tool_returns(self, pick: int, well: bool) -> None:
        call = _pick(self.model.running, pick)
        self.run(self.play.returns(call.number, well=well))
        self.model.returns(call, "ok" if well else "error")
        self.settle()

    # --- answers ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.play.deleted and self.model.waiting)
    @rule(client=CLIENT, pick=PICK, allow=st.booleans())
    def answer(self, client: int, pick: int, allow: bool) -> None:
        call = _pick(self.model.waiting, pick)
        self.give(client, call, call.name, _answer(call.name, allow))

    @precondition(lambda self: not self.play.deleted and self.model.waiting)
    @rule(client=CLIENT, allow=st.booleans(), interrupt=st.booleans())
    def answer_all(self, client: int, allow: bool, interrupt: bool) -> None:
        """Everything that waits in one message, perhaps with an interrupt that makes it all pointless."""
        given = [(call, _answer(call.name, allow)) for call in self.model.waiting]
        ids = [new_event_id() for _ in given]
        events: list[Any] = [
            answer_to(self.play.ids[call.number], call.name, answer, event_id=id)
            for (call, answer), id in zip(given, ids, strict=True)
        ]
        if interrupt:
            events.append(UserInterrupt())
        self.attempt(self.world.runtimes[client].send_event(self.handle(client), *events), None)
        self.model.answer(*given, then_interrupt=interrupt)
        self.given += [(call, answer, id) for (call, answer), id in zip(given, ids, strict=True)]
        self.settle()

    @precondition(lambda self: self.alive and self.model.waiting)
    @rule(pick=PICK, answers=st.tuples(st.booleans(), st.booleans()))
    def answer_from_two_clients(self, pick: int, answers: tuple[bool, bool]) -> None:
        """The first answer that the server gets counts. The other one is refused, or stands in the log for nothing."""
        call = _pick(self.model.waiting, pick)
        given = [(_answer(call.name, allow), new_event_id()) for allow in answers]
        events = [answer_to(self.play.ids[call.number], call.name, text, event_id=id) for text, id in given]
        errors = self.run(self.play.together(*(self.handle(place).send(event) for place, event in enumerate(events))))
        self.sound = None in errors and all(isinstance(error, ConflictError | None) for error in errors)
        assert self.sound, errors
        taken = [text for (text, _), error in zip(given, errors, strict=True) if error is None]
        self.play.model, *others = self.model.answered_twice(call.number, taken)
        self.settle(*others)
        counted = next(each for each in self.model.every_call if each.number == call.number).answer
        self.given += [(call, text, id) for (text, id) in given if text == counted and len(set(answers)) > 1]

    @precondition(lambda self: self.steps_held and not self.model.paused)
    @rule(client=CLIENT, name=st.sampled_from([ASK, CUSTOM]), allow=st.booleans())
    def answer_at_once(self, client: int, name: str, allow: bool) -> None:
        """As early as anybody can know of the call: perhaps before the workflow does."""
        answer = _answer(name, allow)
        self.release(_calls([name]))
        number = len(self.model.every_call) + 1
        event_id = new_event_id()
        event = answer_to(self.run(self.play.use(number)), name, answer, event_id=event_id)
        self.attempt(self.handle(client).send(event), None)
        parked, early = self.model, self.model.copy()
        parked.asks_for([name])
        parked.answer((parked.calls[0], answer))
        early.asks_for([name], answered=answer)
        self.settle(early)
        self.given.append((self.model.calls[0], answer, event_id))

    @precondition(lambda self: not self.play.deleted and self.model.every_call)
    @rule(client=CLIENT, pick=PICK, kind=st.sampled_from([ASK, CUSTOM]), allow=st.booleans())
    def answer_anything(self, client: int, pick: int, kind: str, allow: bool) -> None:
        """Late, of the wrong kind, twice, or by chance right."""
        self.give(client, _pick(self.model.every_call, pick), kind, _answer(kind, allow))

    @precondition(lambda self: not self.play.deleted and self.given)
    @rule(client=CLIENT, pick=PICK, other=st.booleans())
    def answer_again(self, client: int, pick: int, other: bool) -> None:
        """The same answer again, as the same event or as another, is no conflict, however late it comes."""
        call, answer, event_id = _pick(self.given, pick)
        event = answer_to(self.play.ids[call.number], call.name, answer, event_id="" if other else event_id)
        self.unchanged(self.handle(client).send(event), self.refusal("send"))

    def answer_unknown(self, client: int, pick: int) -> None:
        """There is no such call, perhaps because the model has not made it yet. What is sent along is refused too."""
        refusal = self.refusal("send") or NotFoundError
        kind = (ASK, CUSTOM)[pick % 2]
        events = (UserMessage.text("not stored"), answer_to(new_event_id(), kind, _answer(kind, True)))
        act = self.world.runtimes[client].send_event(self.handle(client), *events)
        self.unchanged(act, refusal)

    @precondition(lambda self: self.alive and self.model.every_call)
    @rule(pick=PICK, kind=st.sampled_from([ASK, CUSTOM]), allow=st.booleans())
    def answer_past_the_checks(self, pick: int, kind: str, allow: bool) -> None:
        """A signal cannot be refused: an answer that does not fit stands in the log and changes nothing."""
        call = _pick(self.model.every_call, pick)
        if call.waits and kind == call.name:
            return
        answer = _answer(kind, allow)
        self.run(self.play.signal(answer_to(self.play.ids[call.number], kind, answer, event_id=new_event_id())))
        self.model.ignored(f"#{call.number}", answer)
        self.settle()

    # --- everything else -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.restarts < 2)
    @rule()
    def restart_worker(self) -> None:
        """What runs runs again, but for what must not be repeated."""
        self.restarts += 1
        lost = [call for call in self.model.running if call.name != "work"] if self.alive else []
        self.run(self.world.restart_worker())
        if self.alive and self.model.phase == "talk":
            self.model.phase = "step"
        for call in lost:
            self.model.returns(call, "unknown")
        self.settle()

    def read(self, client: int, pick: int) -> None:
        if self.play.deleted:
            return
        place, limit = pick % (len(self.model.log) + 1), pick % 6
        runtime = self.world.runtimes[client]
        found = self.run(runtime.list_events(self.handle(client), from_seq=place, limit=limit))
        assert found == self.play.live[0][place : place + limit]

    def be_somebody_else(self, client: int, pick: int) -> None:
        stranger = self.play.session(client, user=STRANGER)
        acts: list[Callable[[], Any]] = [
            lambda: stranger.send("hello"),
            stranger.interrupt,
            stranger.pause,
            stranger.resume,
            stranger.archive,
            stranger.delete,
            stranger.status,
            stranger.pending_actions,
            lambda: stranger.update(UpdateSessionInput(title="mine")),
            lambda: self.world.runtimes[client].list_events(stranger),
        ]
        self.unchanged(_pick(acts, pick)(), NotFoundError)

    @precondition(lambda self: self.play.deleted)
    @rule(client=CLIENT)
    def look_after_deletion(self, client: int) -> None:
        session = self.handle(client)
        for act in (session.status, session.info, session.pending_actions, session.resume, session.delete):
            self.attempt(act(), NotFoundError)

    @invariant()
    def only_legal_moves(self) -> None:
        if self.alive:
            assert self.model.status in MOVES[self.seen] | {self.seen, "idle", "running", "rescheduling"}
            self.seen = self.model.status

    def teardown(self) -> None:
        if not hasattr(self, "play"):
            return
        note(f"log: {self.model.log}")
        try:
            if not self.sound:
                return
            self.told.update(re.sub(r" (#|sevt_).*", "", line) for line in self.model.log)
            log = self.run(self.play.end())
            check_log(log)
            _check_consumed(log)
            self._check_effects()
        finally:
            self.run(self.play.close())

    def _check_effects(self) -> None:
        """A tool that must not be repeated never was, and none ran that was denied."""
        runs = Counter(self.world.director.runs)
        for call in self.model.every_call:
            if call.name != "work":
                assert runs[self.play.ids[call.number]] <= 1
            if call.answer == "deny" or call.name not in ("work", "once", ASK):
                assert not runs[self.play.ids[call.number]]

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        return self.play.model

    @property
    def alive(self) -> bool:
        return hasattr(self, "play") and not self.play.deleted and not self.model.closed

    @property
    def steps_held(self) -> bool:
        return self.alive and self.model.phase == "step"

    def handle(self, client: int) -> Any:
        return self.play.session(client)

    def run(self, work: Any) -> Any:
        # What fails first is what went wrong; the checks at the end would hide it.
        sound, self.sound = self.sound, False
        result = self.world.run(work)
        self.sound = sound
        return result

    def refusal(self, move: str) -> Any:
        return NotFoundError if self.play.deleted else self.model.refuses(move)

    def attempt(self, act: Any, refusal: Any) -> None:
        self.run(self.play.attempt(act, refusal))

    def moved(self, move: str, act: Any) -> bool:
        """Try a move that the table allows or forbids; whether it was allowed."""
        refusal = self.refusal(move)
        self.attempt(act, refusal)
        return refusal is None

    def unchanged(self, act: Any, refusal: Any) -> None:
        if self.play.deleted:
            self.attempt(act, NotFoundError)
        else:
            self.run(self.play.unchanged(act, refusal))

    def all_well(self, *acts: Any) -> None:
        """Do things at the same time that are all legal."""
        errors = self.run(self.play.together(*acts))
        self.sound = not any(errors)
        assert self.sound, errors

    def one_wins(self, refusal: Any, acts: list[Any], what: str) -> None:
        """Try a move several times at the same time: it can be made once, if at all."""
        errors = [error for error in self.run(self.play.together(*acts)) if error is not None]
        kind = refusal or ConflictError
        self.sound = len(errors) == len(acts) - (not refusal) and all(isinstance(error, kind) for error in errors)
        assert self.sound, f"{what} should be {'refused' if refusal else 'taken'}: {errors}"

    def settle(self, *others: Model) -> None:
        self.moves += 1
        if not self.play.deleted:
            self.run(self.play.settle(*others))

    def release(self, turn: ScriptedTurn) -> None:
        self.run(self.play.step(turn))

    def give(self, client: int, call: Call, kind: str, answer: str) -> None:
        event_id = new_event_id()
        verdict = self.model.judge(call, kind, answer)
        event = answer_to(self.play.ids[call.number], kind, answer, event_id=event_id)
        if verdict == "taken":
            self.attempt(self.handle(client).send(event), None)
            self.model.answer((call, answer))
            self.given.append((call, answer, event_id))
            self.settle()
        else:
            self.unchanged(self.handle(client).send(event), None if verdict == "known" else verdict)


def _pick(items: Any, pick: int) -> Any:
    return items[pick % len(items)]


def _answer(kind: str, allow: bool) -> str:
    return ("seen" if allow else "nothing there") if kind == CUSTOM else ("allow" if allow else "deny")


def _calls(names: list[str]) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall(name) for name in names])


def _check_consumed(log: list[SessionEvent]) -> None:
    """Each client event is shown to the model as new at most once."""
    # A step that is tried again has its own span and names them again.
    starts = [event for event in log if isinstance(event, ModelRequestStart)]
    consumed = Counter(id for start in starts for id in start.consumed_event_ids)
    assert max(consumed.values(), default=1) == 1


# --- the tests -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(server: EmbeddedServer) -> Generator[World, None, None]:
    world = World(server.address)
    yield world
    world.close()


EVERYTHING = {
    *("message", "running", "step>", "step<", "step<!", "text", "text cut", "thinking", "note", "interrupt", "updated"),
    *("use work", "use once", "use pay", "use forbidden", "use ghost", "custom look", "answer", "result"),
    *("paused", "usage", "rescheduled", "error retrying", "error exhausted", "terminated archived"),
    *(f"idle {reason}" for reason in ("end_turn", "requires_action", "max_tokens", "refusal", "retries_exhausted")),
    *(f"resumed {status}" for status in ("running", "idle")),
}
"""What a hundred programs come by."""


def _settings(programs: int, steps: int) -> settings:
    """No shrinking: a program takes seconds, and its steps are told by name."""
    return settings(
        max_examples=programs,
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(300 + 60 * PROGRAMS)
def test_random_programs_do_what_the_table_says(world: World) -> None:
    machine = _machine(world, LEGAL)

    for begun in range(0, PROGRAMS, BATCH):
        try:
            run_state_machine_as_test(machine, settings=_settings(min(BATCH, PROGRAMS - begun), STEPS))
        except FlakyStrategyDefinition:
            # Two programs began alike, and a race between two clients (`answer_at_once`) was decided differently.
            machine.races += 1
        sys.stdout.write(f"{begun + BATCH} programs, {machine.races} races decided differently\n")
    assert machine.races * 10 <= PROGRAMS

    if PROGRAMS >= 100:
        assert EVERYTHING - machine.told.keys() == set(), "the programs did not go everywhere"


TOO_LITTLE = pytest.param("send", LIVE - {"queued"}, "took an illegal move", id="too little")
TOO_MUCH = pytest.param("resume", LIVE, "resume in .* should be taken", id="too much")
"""Found within seconds, and within a minute."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("move", "statuses", "found"), [TOO_LITTLE, TOO_MUCH] if PROGRAMS >= 100 else [TOO_LITTLE])
def test_a_wrong_table_is_found_out(world: World, move: str, statuses: frozenset[str], found: str) -> None:
    """The machine can fail: here the table allows more, or less, than sessions do."""
    machine = _machine(world, {**LEGAL, move: statuses})

    with pytest.raises(AssertionError, match=found):
        run_state_machine_as_test(machine, settings=_settings(100, 20 if move == "resume" else 6))


def _machine(world: World, legal: Mapping[str, frozenset[str]]) -> Any:
    return type("Machine", (SessionMachine,), {"world": world, "legal": legal, "told": Counter()})
