"""What is to happen, out of a seed: what each session is put through, and which process dies how."""

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from tests.chaos.script import ASKS, CUSTOM, DENIED, Order, Ordered
from tests.chaos.shell import SHELL, key

# --- sessions ------------------------------------------------------------------------------------------------------


class Move(BaseModel):
    """One thing that a client does with its session."""

    model_config = ConfigDict(frozen=True)
    kind: Literal["say", "system", "settle", "interrupt", "pause", "resume", "garbage", "rename", "archive"]
    order: Order | None = None
    when: Literal["now", "step", "effect", "park"] = "now"
    """What an interrupt waits for."""


class SessionPlan(BaseModel):
    """All that happens to one session."""

    model_config = ConfigDict(frozen=True)
    id: str
    moves: tuple[Move, ...]
    first: bool
    """Whether the first message is sent together with the start."""
    max_events: int
    """History events after which a run gives way to the next."""
    early: bool
    """Answer calls as soon as they are seen, without waiting for the session to park."""
    shell: bool = False
    """Whether its agent has the shell."""


def session(seed: int, place: int, *, shell: float) -> SessionPlan:
    """The plan of the session with this number.

    Args:
        shell: Share of sessions that have the shell; 0 where the workers have no sandbox.
    """
    chance = random.Random(f"{seed}/session/{place}")
    moves: list[Move] = []
    with_shell = shell > 0 and chance.random() < shell
    scenes = (*_SHELL_SCENES, *_SCENES) if with_shell else _SCENES
    for _ in range(chance.randint(2, 4)):
        moves += chance.choice(scenes)(chance)
    if with_shell:
        moves += [_say(Order(reads=True)), Move(kind="settle")]
    if chance.random() < 0.85:
        moves.append(Move(kind="archive"))
    return SessionPlan(
        id=f"chaos-{uuid.UUID(int=chance.getrandbits(128)).hex[:16]}-{place}",
        moves=tuple(moves),
        first=chance.random() < 0.5,
        max_events=chance.choice((20, 25, 40, 1500)),
        early=chance.random() < 0.3,
        shell=with_shell,
    )


def event_id(session_id: str, what: str) -> str:
    """The id of a client's event: the same after a restart of the client."""
    return f"sevt_{uuid.uuid5(uuid.NAMESPACE_URL, f'{session_id}/{what}').hex}"


def _say(order: Order) -> Move:
    return Move(kind="say", order=order)


def _plain(chance: random.Random) -> list[Move]:
    order = Order(words=chance.randint(1, 8), pace=chance.choice((0, 0.1)), big=chance.random() < 0.4)
    return [_say(order), Move(kind="settle")]


def _calls(chance: random.Random) -> list[Move]:
    names = ("reserve", "search", "charge", "post", ASKS, DENIED, CUSTOM)
    steps = tuple(
        tuple(
            Ordered(tool=name, seconds=chance.choice((0, 0.1, 0.5, 1.5)))
            for name in chance.choices(names, weights=(3, 2, 3, 2, 2, 0.5, 1), k=chance.randint(1, 4))
        )
        for _ in range(chance.randint(1, 3))
    )
    order = Order(words=3, pace=chance.choice((0, 0.05)), steps=steps, big=chance.random() < 0.4)
    return [_say(order), Move(kind="settle")]


def _queue(chance: random.Random) -> list[Move]:
    said = [_say(Order(words=chance.randint(1, 4), pace=0.05)) for _ in range(chance.randint(2, 5))]
    return [*said, Move(kind="system"), *(_calls(chance) if chance.random() < 0.5 else [Move(kind="settle")])]


def _failure(chance: random.Random) -> list[Move]:
    return [_say(Order(failures=chance.randint(1, 3))), Move(kind="settle")]


def _interrupted(chance: random.Random) -> list[Move]:
    when = chance.choice(("step", "effect", "park"))
    long = Ordered(tool=chance.choice(("reserve", "charge", "search", "post")), seconds=30)
    order = {
        "step": Order(words=6, pace=0.05, stall=True),
        "effect": Order(steps=((long, Ordered(tool="reserve")),)),
        "park": Order(steps=((Ordered(tool=chance.choice((ASKS, CUSTOM))), Ordered(tool="charge")),)),
    }[when]
    follow = [_say(Order(words=2))] if chance.random() < 0.5 else []
    return [_say(order), *follow, Move(kind="interrupt", when=when), Move(kind="settle")]  # type: ignore[arg-type]


def _idle_interrupt(chance: random.Random) -> list[Move]:
    return [Move(kind="interrupt"), *_plain(chance)]


def _paused(chance: random.Random) -> list[Move]:
    first = [_say(Order(words=4, pace=0.1, steps=((Ordered(tool="reserve", seconds=0.3),),)))]
    return [
        *(first if chance.random() < 0.7 else []),
        Move(kind="pause"),
        _say(Order(words=2)),
        Move(kind="resume"),
        Move(kind="settle"),
    ]


def _aside(chance: random.Random) -> list[Move]:
    return [Move(kind=chance.choice(("garbage", "rename", "system"))), *_plain(chance)]


_SCENES = (
    _plain,
    _calls,
    _calls,
    _calls,
    _queue,
    _failure,
    _interrupted,
    _interrupted,
    _idle_interrupt,
    _paused,
    _aside,
)

SHELL_SHARE = 0.35
"""Of sessions that have the shell, unless told otherwise."""


def _command(chance: random.Random, seconds: float) -> Ordered:
    return Ordered(tool=SHELL, seconds=seconds, key=key(chance.getrandbits(64)), left=chance.random() < 0.2)


def _commands(chance: random.Random) -> list[Move]:
    """Alone and beside one another and other tools."""
    steps = []
    for _ in range(chance.randint(1, 3)):
        others = [Ordered(tool=name, seconds=0.1) for name in chance.choices(("reserve", "charge"), k=2)]
        own = [_command(chance, chance.choice((0, 0.1, 0.5, 1.5))) for _ in range(chance.randint(1, 2))]
        calls = own + others[: chance.choice((0, 0, 1, 2))]
        chance.shuffle(calls)
        steps.append(tuple(calls))
    order = Order(words=2, pace=chance.choice((0, 0.05)), steps=tuple(steps), big=chance.random() < 0.3)
    return [_say(order), Move(kind="settle")]


def _interrupted_command(chance: random.Random) -> list[Move]:
    beside = chance.choice(((), (Ordered(tool="reserve"),), (_command(chance, 0),)))
    follow = [_say(Order(words=2))] if chance.random() < 0.5 else []
    order = Order(steps=((_command(chance, 30), *beside),))
    return [_say(order), *follow, Move(kind="interrupt", when="effect"), Move(kind="settle")]


def _paused_command(chance: random.Random) -> list[Move]:
    order = Order(words=3, pace=0.1, steps=((_command(chance, 0.5),), (_command(chance, 0),)))
    return [_say(order), Move(kind="pause"), _say(Order(words=2)), Move(kind="resume"), Move(kind="settle")]


def _read_between(chance: random.Random) -> list[Move]:
    return [*_commands(chance), _say(Order(reads=True)), Move(kind="settle")]


_SHELL_SCENES = (
    _commands,
    _commands,
    _commands,
    _commands,
    _interrupted_command,
    _interrupted_command,
    _paused_command,
    _read_between,
)

# --- kills ---------------------------------------------------------------------------------------------------------

Signal = Literal["KILL", "TERM"]

_CALLS = ("model.begin", "model.stream", "model.end", "model.reported")
_TOOLS = tuple(f"{kind}.{step}" for kind in ("once", "repeat") for step in ("begin", "effect", "end", "reported"))
_COMPACTION = ("compact.begin", "compact.end", "compact.reported")
_TASKS = (
    "task.first",
    "task.message",
    "task.schedule",
    "task.result",
    "task.retry",
    "task.interrupt",
    "task.park",
    "task.answer",
    "task.pause",
    "task.resume",
    "task.continue",
    "task.continued",
    "task.archive",
    "task.seal",
    "task.reported",
)
_SHELL = tuple(f"shell.{step}" for step in ("begin", "send", "effect", "end", "reported"))
_PLACE = tuple(f"{kind}.{step}" for kind in ("open", "store") for step in ("begin", "end", "reported"))
_EXPORT = ("export.begin", "export.run", "export.end", "export.reported", "export.task")

EXPORTS = (Path(__file__).parents[2] / "workflows" / "sojourn" / "workflows" / "export.py").exists()
"""Whether closed runs are exported."""

POINTS: tuple[str, ...] = (*_CALLS, *_TOOLS, *_COMPACTION, *_TASKS, *(_EXPORT if EXPORTS else ()))
"""Where a worker can be made to end itself. A point of a workflow task lies after its code ran and before the server
hears of it; ``reported`` lies a few milliseconds after the server may have heard."""
SHELL_POINTS = (*_SHELL, *_PLACE)
"""The same where there is a sandbox: of a command, and of the workspace that it runs in."""


def points(*, shell: bool) -> tuple[str, ...]:
    """All points of a campaign."""
    return (*POINTS, *(SHELL_POINTS if shell else ()))


Victim = Literal["step", "worker", "workers", "client", "reader", "server"]


@dataclass(frozen=True)
class Blow:
    """One kill."""

    victim: Victim
    signal: Signal
    pause: float
    """Seconds since the one before."""
    point: str = ""
    choice: float = 0.0
    """Picks among several processes, from 0 to 1."""
    away: float = 0.0
    """Seconds until the server, or the one worker, is started again."""


@dataclass(frozen=True)
class Mix:
    """How often each kind of process is hit, and how fast."""

    mean_pause: float = 1.6
    weights: dict[Victim, float] = field(
        default_factory=lambda: {"step": 60, "worker": 14, "workers": 3, "client": 11, "reader": 8, "server": 4}
    )


_AWAY_SECONDS: dict[Victim, tuple[float, ...]] = {"server": (0, 0, 0.5, 1, 4), "worker": (0, 0, 0, 8, 8)}
"""A worker that is away for long makes workspaces move to others."""


def blows(seed: int, mix: Mix, *, shell: bool) -> Iterator[Blow]:
    """Kills without end. Every named step comes with either signal before any comes again."""
    chance = random.Random(f"{seed}/blows")
    victims: Sequence[Victim] = tuple(mix.weights)
    left: list[tuple[str, Signal]] = []
    while True:
        victim = chance.choices(victims, weights=tuple(mix.weights.values()))[0]
        pause = min(chance.expovariate(1 / mix.mean_pause), 4 * mix.mean_pause)
        signal: Signal = chance.choices(("KILL", "TERM"), weights=(3, 1))[0]
        point = ""
        if victim == "step":
            left = left or _shuffled(chance, points(shell=shell))
            point, signal = left.pop()
        away = chance.choice(_AWAY_SECONDS.get(victim, (0,)))
        yield Blow(victim, signal, pause, point, chance.random(), away)


def _shuffled(chance: random.Random, all: Sequence[str]) -> list[tuple[str, Signal]]:
    """Each point three times with SIGKILL and once with SIGTERM."""
    signals: tuple[Signal, ...] = ("KILL", "KILL", "KILL", "TERM")
    pairs = [(point, signal) for signal in signals for point in all]
    chance.shuffle(pairs)
    return pairs


def every_point(seed: int, mix: Mix, *, shell: bool) -> Iterator[Blow]:
    """Each named step once with SIGKILL, as fast as the sessions get there."""
    chance = random.Random(f"{seed}/points")
    every = list(points(shell=shell))
    chance.shuffle(every)
    for point in every:
        yield Blow("step", "KILL", mix.mean_pause / 2, point)


@dataclass(frozen=True)
class Setting:
    """What every process of a campaign must know; lies in the folder as a file."""

    seed: int
    address: str
    queue: str
    workspace: str
    in_flight: int
    """Sessions at the same time, per client."""
    clients: int
    shell: float
    """Share of sessions that have the shell; with 0 the workers have no sandbox."""
    marker: str
    """Seven digits in the command lines of all that sleeps in a sandbox of this campaign."""

    def save(self, folder: Path) -> None:
        (folder / "setting.json").write_text(json.dumps(self.__dict__))

    @classmethod
    def load(cls, folder: Path) -> "Setting":
        return cls(**json.loads((folder / "setting.json").read_text()))
