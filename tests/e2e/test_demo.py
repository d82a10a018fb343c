import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sojourn.cli.demo_check import Evidence, check
from sojourn.testing.demo import Effect
from sojourn.testing.protocol import Reply, Text
from sojourn.testing.provider import FakeProvider, Fault
from sojourn.types import (
    AgentMessage,
    AgentToolResult,
    AgentToolUse,
    EndTurn,
    EventId,
    ModelRequestEnd,
    ModelRequestStart,
    SessionEvent,
    SessionIdle,
    SessionStatus,
    SessionTerminated,
    TextBlock,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.event import SessionPaused, SessionResumed, SessionRunning

PATIENCE_SECONDS = 90
"""The demonstration takes 17 s; much longer on a busy machine."""


def tool_use(name: str, *, ask: bool = False) -> AgentToolUse:
    return AgentToolUse(id=EventId(name), name=name, input={}, evaluated_permission="ask" if ask else "allow")


def tool_result(name: str, *, unknown: bool = False) -> AgentToolResult:
    return AgentToolResult(
        id=EventId(f"{name}_result"),
        tool_use_id=EventId(name),
        outcome="unknown" if unknown else "ok",
        is_error=unknown,
    )


def numbered(events: Sequence[SessionEvent]) -> list[SessionEvent]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        event.model_copy(update={"seq": seq, "id": event.id or f"event_{seq}", "processed_at": at})
        for seq, event in enumerate(events, start=1)
    ]


def a_log() -> list[SessionEvent]:
    """What a good demonstration leaves, without its first scene."""
    return numbered(
        [
            UserMessage.text("book", id="book"),
            SessionRunning(user_event_id=EventId("book")),
            ModelRequestStart(id=EventId("step"), consumed_event_ids=(EventId("book"),)),
            tool_use("check_weather"),
            tool_use("book_table", ask=True),
            ModelRequestEnd(model_request_start_id=EventId("step")),
            UserToolConfirmation(id=EventId("yes"), tool_use_id=EventId("book_table"), result="allow"),
            tool_result("check_weather"),
            tool_result("book_table"),
            tool_use("reserve_room"),
            tool_use("charge_card"),
            tool_result("charge_card", unknown=True),
            tool_result("reserve_room"),
            UserInterrupt(id=EventId("stop")),
            AgentMessage(id=EventId("story"), content=(TextBlock(text="Once upon"),), incomplete=True),
            SessionIdle(stop_reason=EndTurn()),
            SessionPaused(),
            UserMessage.text("late", id="late"),
            SessionResumed(status=SessionStatus.IDLE),
            SessionRunning(user_event_id=EventId("late")),
            ModelRequestStart(id=EventId("last"), consumed_event_ids=(EventId("late"),)),
            AgentMessage(id=EventId("answer"), content=(TextBlock(text="Tram 28"),)),
            SessionIdle(stop_reason=EndTurn()),
            SessionTerminated(status=SessionStatus.ARCHIVED),
        ]
    )


def effect(name: str, *, attempt: int = 1, key: str | None = None) -> Effect:
    return Effect(tool=name, key=EventId(key or name), attempt=attempt)


def evidence(log: list[SessionEvent] | None = None) -> Evidence:
    """Of this log, seen the same way from all sides."""
    log = a_log() if log is None else log
    return Evidence(
        log=log,
        live=log,
        elsewhere=log,
        sent=[EventId(id) for id in ("book", "yes", "stop", "late")],
        ledger=[
            effect("book_table"),
            effect("reserve_room"),
            effect("charge_card"),
            effect("reserve_room", attempt=2),
        ],
        previews={EventId("story"): "Once", EventId("answer"): "Tram"},
        late=EventId("late"),
    )


def broken(seen: Evidence) -> set[str]:
    return {each.promise for each in check(seen) if each.faults}


def without(*ids: str) -> Evidence:
    """The log lost these events, and its numbers hide it."""
    return evidence(numbered([event for event in a_log() if event.id not in ids]))


def changed(id: str, /, **update: object) -> Evidence:
    return evidence([event.model_copy(update=update) if event.id == id else event for event in a_log()])


def moved(kind: type[SessionEvent], to: int) -> Evidence:
    log = a_log()
    (event,) = [each for each in log if isinstance(each, kind)]
    log.remove(event)
    log.insert(to, event)
    return evidence(numbered(log))


def ledger(*effects: Effect) -> Evidence:
    return replace(evidence(), ledger=effects)


BOOKED, RESERVED, CHARGED = effect("book_table"), effect("reserve_room"), effect("charge_card")
AGAIN = effect("reserve_room", attempt=2)

NUMBERS = "events are numbered from 1 without a gap"
TWICE = "no event is there twice"
SENT = "every message and answer that was sent is there exactly once"
RESULTS = "every tool call has exactly one result"
LEDGER = "nothing in the ledger was done twice, and nothing reported is missing from it"
PERMISSION = "no tool that needs permission ran without it"
PREVIEWS = "previews were the beginning of what was said"
PAUSE = "nothing ran during the pause, and the message sent then was answered"
END = "the terminal event is the last one"
SAME = "the log read back is the log that was streamed"
ELSEWHERE = "another process streamed the same log"
PARALLEL = "two tools were called in parallel"
APPROVED = "the approved call ran"
REPEATED = "the idempotent call was repeated after the crash, with the same key"
ONCE = "the other one was not: its outcome is unknown"
PARTIAL = "the interrupted text was kept"


BREAKAGES: list[tuple[str, Callable[[], Evidence]]] = [
    (NUMBERS, lambda: evidence([event for event in a_log() if event.seq != 5])),
    (NUMBERS, lambda: evidence([*a_log()[:5], *a_log()[4:]])),
    (NUMBERS, lambda: evidence(a_log()[1:])),
    (NUMBERS, lambda: evidence([])),
    (TWICE, lambda: evidence(numbered([*a_log()[:3], *a_log()[2:]]))),
    (SENT, lambda: without("late")),
    (SENT, lambda: without("yes")),
    (SENT, lambda: without("stop")),
    (SENT, lambda: evidence(numbered([a_log()[0], *a_log()]))),
    (SENT, lambda: changed("book", id="somebody else's")),
    (SENT, lambda: replace(evidence(), sent=[*evidence().sent, EventId("never stored")])),
    (RESULTS, lambda: without("check_weather_result")),
    (RESULTS, lambda: without("charge_card_result")),
    (RESULTS, lambda: changed("reserve_room_result", tool_use_id="charge_card")),
    (RESULTS, lambda: without("book_table")),
    (LEDGER, lambda: ledger(BOOKED, RESERVED, CHARGED, AGAIN, CHARGED)),
    (LEDGER, lambda: ledger(BOOKED, RESERVED, CHARGED, AGAIN, effect("charge_card", attempt=2))),
    (LEDGER, lambda: ledger(BOOKED, BOOKED, RESERVED, CHARGED, AGAIN)),
    (LEDGER, lambda: ledger(RESERVED, CHARGED, AGAIN)),
    (LEDGER, lambda: ledger(BOOKED, RESERVED, CHARGED, AGAIN, effect("charge_card", key="of nobody"))),
    (PERMISSION, lambda: changed("yes", result="deny")),
    (PERMISSION, lambda: without("yes")),
    (PREVIEWS, lambda: replace(evidence(), previews={**evidence().previews, EventId("answer"): "Train"})),
    (PREVIEWS, lambda: changed("answer", content=(TextBlock(text="28"),))),
    (PAUSE, lambda: moved(SessionResumed, 21)),
    (PAUSE, lambda: changed("last", consumed_event_ids=())),
    (END, lambda: without("event_24")),
    (END, lambda: moved(SessionTerminated, 3)),
    (END, lambda: evidence(numbered([*a_log(), SessionTerminated(status=SessionStatus.ARCHIVED)]))),
    (SAME, lambda: replace(evidence(), live=a_log()[:-1])),
    (SAME, lambda: replace(evidence(), live=[*a_log()[:5], *a_log()[6:]])),
    (SAME, lambda: replace(evidence(), live=[*a_log(), a_log()[-1]])),
    (SAME, lambda: replace(evidence(), live=[*a_log()[:4], a_log()[5], a_log()[4], *a_log()[6:]])),
    (ELSEWHERE, lambda: replace(evidence(), elsewhere=a_log()[1:])),
    (ELSEWHERE, lambda: replace(evidence(), elsewhere=changed("answer", content=()).log)),
    (ELSEWHERE, lambda: replace(evidence(), elsewhere=[])),
    (PARALLEL, lambda: without("check_weather", "check_weather_result")),
    (APPROVED, lambda: changed("book_table_result", outcome="denied")),
    (APPROVED, lambda: changed("book_table", evaluated_permission="allow")),
    (REPEATED, lambda: ledger(BOOKED, RESERVED, CHARGED)),
    (REPEATED, lambda: ledger(BOOKED, RESERVED, CHARGED, effect("reserve_room", attempt=2, key="another"))),
    (REPEATED, lambda: changed("reserve_room_result", outcome="unknown")),
    (ONCE, lambda: ledger(BOOKED, RESERVED, CHARGED, AGAIN, effect("charge_card", key="another"))),
    (ONCE, lambda: ledger(BOOKED, RESERVED, AGAIN)),
    (ONCE, lambda: changed("charge_card_result", outcome="ok")),
    (PARTIAL, lambda: without("story")),
    (PARTIAL, lambda: changed("story", content=())),
    (PARTIAL, lambda: changed("story", incomplete=False)),
]


def test_a_whole_log_keeps_every_promise() -> None:
    assert broken(evidence()) == set()


@pytest.mark.parametrize(("promise", "spoil"), BREAKAGES)
def test_a_loss_or_a_doubling_breaks_its_promise(promise: str, spoil: Callable[[], Evidence]) -> None:
    assert promise in broken(spoil())


def test_every_promise_can_be_broken() -> None:
    assert {promise for promise, _ in BREAKAGES} == {each.promise for each in check(evidence())}


def test_a_model_that_goes_its_own_way_is_held_to_what_must_always_hold() -> None:
    talker = numbered(
        [
            UserMessage.text("late", id="late"),
            ModelRequestStart(consumed_event_ids=(EventId("late"),)),
            AgentMessage(content=(TextBlock(text="I have no use for tools"),)),
            SessionTerminated(status=SessionStatus.ARCHIVED),
        ]
    )
    seen = replace(evidence(talker), sent=[EventId("late")], ledger=[], previews={}, scripted=False)

    assert broken(seen) == set()
    assert broken(replace(seen, scripted=True)) == {PARALLEL, APPROVED, REPEATED, ONCE, PARTIAL}
    assert broken(replace(seen, live=talker[1:])) == {SAME}


@asynccontextmanager
async def demonstration(folder: Path, *arguments: str, **environment: str) -> AsyncGenerator["Run", None]:
    """`sojourn demo` as a process; what it leaves behind is killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from sojourn.cli import main; main()", "demo", "--keep", str(folder), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    run = Run(process, folder)
    try:
        yield run
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for pid in await run.survivors():
            os.kill(pid, signal.SIGKILL)


class Run:
    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.lines: list[str] = []
        self._folder = folder

    async def see(self, wanted: str) -> str:
        """Read on to a line with these words."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, "\n".join(self.lines)
                self.lines.append(line.rstrip())
                if wanted in line:
                    return self.lines[-1]

    async def end(self) -> int:
        """Read on to the end; the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            rest = (await self.process.stdout.read()).decode()
            self.lines += rest.splitlines()
            return await self.process.wait()

    async def survivors(self) -> list[int]:
        """Processes of this run that are still there, the server among them."""
        listing = await asyncio.create_subprocess_exec("ps", "-wweo", "pid=,command=", stdout=asyncio.subprocess.PIPE)
        output, _ = await listing.communicate()
        found = [line.split(maxsplit=1) for line in output.decode().splitlines() if str(self._folder) in line]
        return [int(pid) for pid, _ in found if int(pid) != self.process.pid]


async def test_demo_keeps_every_promise(tmp_path: Path) -> None:
    async with demonstration(tmp_path / "kept") as run:
        code = await run.end()
        left = await run.survivors()

    output = "\n".join(run.lines)
    assert code == 0, output
    assert left == []
    assert output.count("✓") == len(check(evidence()))
    assert "✗" not in output
    for words in (
        "/namespaces/default/workflows/default%2Fsesn_",
        "kill -9",
        "waiting for the bank",
        "the session has gone on by itself",
        "allow sevt_",
        "(cut short)",
        "resumed",
        "is archived; start a new one",
        "Nothing lost, nothing doubled",
        f"sojourn up --data {tmp_path / 'kept'}",
    ):
        assert words in output


@pytest.mark.thorough
async def test_demo_fails_if_something_was_done_twice(tmp_path: Path) -> None:
    async with demonstration(tmp_path) as run:
        await run.see("kill -9")
        (ledger,) = (tmp_path / "ledger").iterdir()
        (charge,) = [line for line in ledger.read_text().splitlines() if "charge_card" in line]
        with ledger.open("a") as file:
            file.write(f"{charge}\n")
        code = await run.end()

    assert code == 1
    assert any("✗" in line and LEDGER in line for line in run.lines)
    assert any("checks failed" in line for line in run.lines)


async def test_demo_runs_with_another_model(tmp_path: Path) -> None:
    answers = [Reply([Text(text)]) for text in ("Castle.", "No.", "No.", "Once upon a time.", "Tram 28.")]
    async with (
        FakeProvider(*answers) as provider,
        demonstration(
            tmp_path, "--model", "openai:fake", OPENAI_BASE_URL=f"{provider.url}/v1", OPENAI_API_KEY="none"
        ) as run,
    ):
        code = await run.end()

    assert code == 0, "\n".join(run.lines)
    assert any("Tram 28." in line for line in run.lines)


async def test_demo_tells_what_is_wrong_with_the_model(tmp_path: Path) -> None:
    async with (
        FakeProvider(Fault(401, "no such key")) as provider,
        demonstration(
            tmp_path, "--model", "openai:fake", OPENAI_BASE_URL=f"{provider.url}/v1", OPENAI_API_KEY="none"
        ) as run,
    ):
        code = await run.end()

    assert code == 1
    assert "no such key" in run.lines[-1]


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Web UI", signal.SIGTERM),
        ("charge_card(", signal.SIGINT),
        pytest.param("a new worker starts", signal.SIGTERM, marks=pytest.mark.thorough),
    ],
)
async def test_demo_leaves_nothing_behind_when_it_is_stopped(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    async with demonstration(tmp_path) as run:
        await run.see(moment)
        run.process.send_signal(number)
        code = await run.end()
        left = await run.survivors()

    assert code == 128 + number
    assert left == []


async def test_demo_fails_and_leaves_nothing_behind_when_its_server_dies(tmp_path: Path) -> None:
    async with demonstration(tmp_path) as run:
        await run.see("2  Two tools")
        killed = await run.survivors()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        code = await run.end()
        left = await run.survivors()

    assert len(killed) == 3, "server, worker and reader"
    assert code == 1
    assert left == []
    assert any("The demonstration failed" in line for line in run.lines)
