"""What a session must do, step by step: written from the README and the design, with nothing of `sojourn.workflows`.

The expected log is a list of lines such as ``idle end_turn`` or ``result #3 denied``; ``#3`` is the session's third
tool call.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from sojourn.types import ConflictError, InvalidRequestError, NotFoundError, SojournError

LIVE = frozenset({"queued", "running", "idle", "rescheduling", "paused"})

LEGAL: Mapping[str, frozenset[str]] = {
    "send": LIVE,
    "interrupt": LIVE,
    "update": LIVE,
    "archive": LIVE,
    "pause": frozenset({"running", "idle"}),
    "resume": frozenset({"paused"}),
}
"""What a client may do, and in which status."""

MOVES: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "idle", "archived"}),
    "running": frozenset({"running", "idle", "rescheduling", "paused", "archived", "failed"}),
    "idle": frozenset({"idle", "running", "paused", "archived"}),
    "rescheduling": frozenset({"rescheduling", "running", "idle", "archived", "failed"}),
    "paused": frozenset({"paused", "running", "idle", "rescheduling", "archived", "failed"}),
    "archived": frozenset({"archived"}),
}
"""Which status may be seen after which. A paused retry, once resumed, is a retry again."""

Phase = Literal["", "step", "talk", "tools", "parked", "held", "backoff"]

CUSTOM, ASK, DENIED, GHOST = "look", "pay", "forbidden", "ghost"
RUNS = ("work", "once")
KINDS = (*RUNS, ASK, CUSTOM, DENIED, GHOST)


@dataclass
class Call:
    """One tool call: open until it has been started, approved or settled."""

    number: int
    name: str
    state: Literal["open", "approved", "running", "settled"] = "open"
    answer: str = ""
    """The answer that counted."""

    @property
    def waits(self) -> bool:
        return self.state == "open" and self.name in (ASK, CUSTOM)

    @property
    def ready(self) -> bool:
        return self.state == "approved" or (self.state == "open" and self.name in RUNS)


@dataclass
class Model:
    """A session as it should be."""

    legal: Mapping[str, frozenset[str]] = field(default_factory=lambda: LEGAL)
    log: list[str] = field(default_factory=list)
    phase: Phase = ""
    below: str = "queued"
    paused: bool = False
    queue: deque[str] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    """Those of the current step."""
    past: list[Call] = field(default_factory=list)
    turns: int = 0

    def copy(self) -> "Model":
        return deepcopy(self)

    # --- what can be asked -----------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        return "paused" if self.paused and self.below != "archived" else self.below

    @property
    def closed(self) -> bool:
        return self.below == "archived"

    @property
    def waiting(self) -> list[Call]:
        return [] if self.closed else [call for call in self.calls if call.waits]

    @property
    def running(self) -> list[Call]:
        return [call for call in self.calls if call.state == "running"]

    @property
    def every_call(self) -> list[Call]:
        return [*self.past, *self.calls]

    def refuses(self, move: str) -> type[SojournError] | None:
        """The error that a client must get for a move, if it is illegal now."""
        return None if self.status in self.legal[move] else ConflictError

    def refuses_agent(self) -> type[SojournError] | None:
        return ConflictError if self.closed or self.phase or self.queue else None

    def judge(self, call: Call | None, kind: str, answer: str) -> Literal["taken", "known"] | type[SojournError]:
        """What becomes of an answer: it counts, it is a repetition, or it is refused."""
        if self.closed:
            return ConflictError
        if call is None:
            return NotFoundError
        if call.answer:
            return "known" if call.answer == answer and kind == call.name else ConflictError
        if call.waits:
            return "taken" if kind == call.name else InvalidRequestError
        return SojournError

    # --- what clients do -------------------------------------------------------------------------------------------

    def send(self, *ids: str) -> None:
        for id in ids:
            self.log.append(f"message {id}")
            self.queue.append(id)
        self._wake()

    def note(self) -> None:
        self.log.append("note")

    def interrupt(self, *, then: str = "") -> None:
        self.log.append("interrupt")
        if then:
            self.log.append(f"message {then}")
            self.queue.append(then)
        if self.phase:
            self._cut()
            return
        self.log += ["usage", "idle end_turn"]
        self.below = "idle"
        self._wake()

    def pause(self) -> None:
        self.paused = True
        self.log.append("paused")

    def resume(self) -> None:
        self.paused = False
        self.log.append(f"resumed {self.below}")
        if self.phase == "held":
            self._go_on()
        elif self.phase == "tools":
            self._start_ready()
        elif self.phase == "backoff" and self.due:
            self._try_again()
        self._wake()

    def archive(self) -> None:
        self.below = "archived"
        if self.phase:
            self._cut()
        self.log.append("terminated archived")

    def update(self) -> None:
        self.log.append("updated")

    def answer(self, *given: tuple[Call, str], then_interrupt: bool = False) -> None:
        """Answers in one message; ``then_interrupt``: and an interrupt with them."""
        self.log += [f"answer #{call.number} {answer}" for call, answer in given] + ["interrupt"] * then_interrupt
        for call, answer in given:
            call.answer = answer
            call.state = "approved" if answer == "allow" else "settled"
            if answer == "deny":
                self.log.append(f"result #{call.number} denied")
        if then_interrupt:
            self._cut()
        elif self.phase == "tools":
            self._start_ready()
        elif self.phase == "parked":
            self._answered()

    def answered_twice(self, number: int, taken: list[str]) -> "list[Model]":
        """What may have come of one or two answers that were taken at the same time."""
        outcomes = []
        for first, second in (taken, taken[::-1]) if len(taken) == 2 else [(taken[0], "")]:
            # An equal answer is not even stored if its sender has seen the first.
            for where in ["nowhere"] * (second in ("", first)) + ["next", "last"] * bool(second):
                model = self.copy()
                place = len(model.log) + 1
                model.answer((next(call for call in model.calls if call.number == number), first))
                if where != "nowhere":
                    model.log.insert(place if where == "next" else len(model.log), f"answer #{number} {second}")
                outcomes.append(model)
        return outcomes

    def ignored(self, target: str, answer: str) -> None:
        """An answer that came past the client's checks: it stands in the log and changes nothing."""
        self.log.append(f"answer {target} {answer}")

    # --- what the model and the tools do ---------------------------------------------------------------------------

    def says(self, reason: str, *, thinks: bool = False) -> None:
        self.log += ["thinking"] * thinks + ["text", "step<"]
        self._end(reason)

    def talks(self) -> None:
        self.phase = "talk"

    def asks_for(self, names: Iterable[str], *, answered: str = "") -> None:
        """A step that ends in tool calls; ``answered``: the first has its answer before anything else happens."""
        self.past += self.calls
        self.calls = [Call(len(self.past) + place, name) for place, name in enumerate(names, 1)]
        self.log += [f"{'custom' if call.name == CUSTOM else 'use'} {call.name} #{call.number}" for call in self.calls]
        self.log.append("step<")
        self.phase = "held"
        if answered:
            self.answer((self.calls[0], answered))
        for call in self.calls:
            if call.name in (DENIED, GHOST):
                call.state = "settled"
                self.log.append(f"result #{call.number} {'denied' if call.name == DENIED else 'error'}")
        self._go_on()

    due: bool = False
    """Whether the wait before the next attempt is over."""

    def fails(self, how: str) -> None:
        self.log.append("step<!")
        if how == "fatal":
            self.log.append("error exhausted")
            self._end("retries_exhausted")
            return
        self.log += ["error retrying", "rescheduled"]
        self.below, self.phase, self.due = "rescheduling", "backoff", how == "short"
        if self.due and not self.paused:
            self._try_again()

    def returns(self, call: Call, outcome: str) -> None:
        call.state = "settled"
        self.log.append(f"result #{call.number} {outcome}")
        if not self.running:
            self._park() if self.waiting else self._go_on()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self.phase and self.queue and not self.paused and not self.closed:
            self.turns += 1
            self.log.append(f"running {self.queue.popleft()}")
            self.below = "running"
            self._go_on()

    def _go_on(self) -> None:
        """The next thing of the turn: tools that may run, then whoever must be asked, then the model."""
        self.phase = "held"
        if self.paused and (self._ready() or not self.waiting):
            return
        self._start_ready()
        if self.running:
            self.phase = "tools"
        elif self.waiting:
            self._park()
        else:
            self.phase = "step"
            self.log.append("step>")

    def _ready(self) -> list[Call]:
        return [call for call in self.calls if call.ready]

    def _start_ready(self) -> None:
        for call in [] if self.paused else self._ready():
            call.state = "running"

    def _park(self) -> None:
        self.phase, self.below = "parked", "idle"
        self.log += ["usage", "idle requires_action " + " ".join(f"#{call.number}" for call in self.waiting)]

    def _answered(self) -> None:
        if self.waiting:
            self._park()
        else:
            self.below = "running"
            self.log.append("running")
            self._go_on()

    def _try_again(self) -> None:
        self.below, self.phase = "running", "step"
        self.log += ["running", "step>"]

    def _cut(self) -> None:
        """The turn ends here: what runs is cancelled, what is open is closed."""
        if self.phase in ("step", "talk"):
            self.log += ["text cut"] * (self.phase == "talk") + ["step<"]
        for call in self.calls:
            if call.state != "settled":
                call.state = "settled"
                self.log.append(f"result #{call.number} interrupted")
        self._end("end_turn")

    def _end(self, reason: str) -> None:
        self.phase = ""
        self.log.append("usage")
        if not self.closed:
            self.log.append(f"idle {reason}")
            self.below = "idle"
        self._wake()


def in_order(log: Iterable[str]) -> list[str]:
    """The log with neighbouring tool results sorted: tools that end together end in any order."""
    ordered: list[str] = []
    for line in log:
        place = len(ordered)
        while (
            place
            and line.startswith("result")
            and ordered[place - 1].startswith("result")
            and ordered[place - 1] > line
        ):
            place -= 1
        ordered.insert(place, line)
    return ordered
