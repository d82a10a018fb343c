import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import BaseModel, JsonValue
from temporalio import activity
from temporalio.activity import ActivityCancellationDetails
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from sojourn.activities import ToolCancelledError, ToolContext, tool
from sojourn.activities.catalogue import Catalogue
from sojourn.activities.envelope import Envelope
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.tool import Function, Tool, Toolbox, ToolFailedError
from sojourn.activities.tool_call import ToolCall
from sojourn.types.content import Base64Source, ImageBlock, TextBlock
from sojourn.types.converter import data_converter
from sojourn.types.id import EventId
from sojourn.types.payload import INLINE_LIMIT_BYTES
from sojourn.types.preview import ToolPreview
from sojourn.types.record import TOOL_GRACE, RunToolInput, RunToolResult, ToolCallPart

ID = EventId("sevt_1")
ENVELOPE = Envelope(cast(Client, SimpleNamespace(data_converter=data_converter)))
"""Of a worker without a store."""
SOON = timedelta(seconds=45)
"""Bound on every wait; what is waited for comes at once."""

trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace")


class OneLog:
    """The log of a session in which the model has just made one call. Stands in for `SessionLogs`."""

    def __init__(self, name: str, input: dict[str, JsonValue]) -> None:
        self._part = ToolCallPart(id=ID, call_id="c", name=name, input=input, kind="function", permission="allow")
        self.asked: list[tuple[str, str, EventId]] = []
        self._workflow_id = ""
        self.start = None

    def get(self, workflow_id: str) -> "OneLog":
        self._workflow_id = workflow_id
        return self

    async def call(self, run_id: str, tool_use_id: EventId) -> ToolCallPart:
        self.asked.append((self._workflow_id, run_id, tool_use_id))
        return self._part


class Stage:
    """Runs one call of one tool as the worker would."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.environment = ActivityEnvironment()
        self.threads = threads
        self.heartbeats: list[object] = []
        self.beaten = asyncio.Event()
        self.environment.on_heartbeat = self._beat
        self.limit(timedelta(seconds=30))

    def limit(self, timeout: timedelta) -> None:
        """Set the tool's own time; the server gives it a little more."""
        self.environment.info = replace(
            self.environment.info,
            workflow_id="acme/sesn_1",
            attempt=2,
            start_to_close_timeout=timeout + TOOL_GRACE,
        )

    def _beat(self, *details: object) -> None:
        if details:
            self.heartbeats.append(details[0])
            self.beaten.set()

    async def run(self, function: Function | Tool, **input: JsonValue) -> RunToolResult:
        made = function if isinstance(function, Tool) else tool(function)
        return await self.run_named(made.name, Toolbox([made]), OneLog(made.name, input))

    async def run_named(self, name: str, tools: Toolbox, log: OneLog) -> RunToolResult:
        running = ToolCall(logs=cast(SessionLogs, log), tools=Catalogue(tools), threads=self.threads, envelope=ENVELOPE)
        async with asyncio.timeout(SOON.total_seconds()):
            return await self.environment.run(running.run_tool, RunToolInput(tool_use_id=ID, name=name))

    @asynccontextmanager
    async def running(self, function: Function | Tool) -> AsyncGenerator[asyncio.Task[RunToolResult], None]:
        task = asyncio.create_task(self.run(function))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def threads() -> Generator[ThreadPoolExecutor, None, None]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def stage(threads: ThreadPoolExecutor) -> Stage:
    return Stage(threads)


def words(result: RunToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextBlock)
    return block.text


def raising(error: BaseException) -> Function:
    async def fail() -> None:
        raise error

    return fail


# --- what a tool returns ---------------------------------------------------------------------------------------------


class Weather(BaseModel):
    degrees: int


IMAGE = ImageBlock(source=Base64Source(media_type="image/png", data="AAAA"))


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("words", (TextBlock(text="words"),)),
        ("", (TextBlock(text=""),)),
        (None, ()),
        (0, (TextBlock(text="0"),)),
        (False, (TextBlock(text="false"),)),
        ([], (TextBlock(text="[]"),)),
        ({"a": [1, None]}, (TextBlock(text='{"a":[1,null]}'),)),
        (["a", "b"], (TextBlock(text='["a","b"]'),)),
        (Weather(degrees=3), (TextBlock(text='{"degrees":3}'),)),
        ([Weather(degrees=3)], (TextBlock(text='[{"degrees":3}]'),)),
        (IMAGE, (IMAGE,)),
        ([IMAGE, TextBlock(text="x")], (IMAGE, TextBlock(text="x"))),
        ((TextBlock(text="x"),), (TextBlock(text="x"),)),
    ],
    ids=repr,
)
async def test_value_becomes_content(stage: Stage, value: object, content: tuple[object, ...]) -> None:
    async def give() -> object:
        return value

    result = await stage.run(give)

    assert (result.tool_use_id, result.outcome, result.content) == (ID, "ok", content)


async def test_value_that_is_no_json_is_an_error_result(stage: Stage) -> None:
    async def give() -> object:
        return object()

    result = await stage.run(give)

    assert result.outcome == "error"
    assert words(result).startswith("The tool returned a object that cannot be written as JSON")


async def test_text_that_is_no_unicode_is_an_error_result(stage: Stage) -> None:
    async def give() -> str:
        return "caf\udce9"

    assert (await stage.run(give)).outcome == "error"


async def test_result_that_is_too_large_is_an_error_result(stage: Stage) -> None:
    async def give() -> str:
        return "x" * (INLINE_LIMIT_BYTES + 1)

    result = await stage.run(give)

    assert result.outcome == "error"
    assert "Ask for less at a time" in words(result)


async def test_size_of_a_result_counts_its_bytes_and_not_its_characters(stage: Stage) -> None:
    async def give() -> str:
        return "ü" * (INLINE_LIMIT_BYTES // 2 + 1)

    assert (await stage.run(give)).outcome == "error"


async def test_result_just_under_the_limit_is_kept(stage: Stage) -> None:
    async def give() -> str:
        return "x" * (INLINE_LIMIT_BYTES - 70_000)

    assert (await stage.run(give)).outcome == "ok"


# --- what a tool is given --------------------------------------------------------------------------------------------


async def test_arguments_come_from_the_log_of_the_session(stage: Stage) -> None:
    async def add(one: int, two: int = 2) -> int:
        return one + two

    log = OneLog("add", {"one": 40})
    result = await stage.run_named("add", Toolbox([tool(add)]), log)

    assert words(result) == "42"
    assert log.asked == [("acme/sesn_1", "test-run", ID)]


async def test_context_knows_session_call_and_attempt(stage: Stage) -> None:
    async def tell(context: ToolContext) -> list[str | int]:
        return [context.session_id, context.tool_use_id, context.attempt]

    assert words(await stage.run(tell)) == '["sesn_1","sevt_1",2]'


async def test_arguments_that_do_not_fit_are_explained_and_the_tool_does_not_run(stage: Stage) -> None:
    ran = False

    async def pay(amount: int, to: str) -> None:
        nonlocal ran
        ran = True

    result = await stage.run(pay, amount="much", by="cheque")

    assert (result.outcome, ran) == ("error", False)
    assert words(result).startswith("Invalid arguments. ")
    assert all(name in words(result) for name in ("amount: ", "to: ", "by: "))


async def test_tool_that_the_worker_does_not_have_is_an_error_result(stage: Stage) -> None:
    result = await stage.run_named("pay", Toolbox(), OneLog("pay", {}))

    assert (result.outcome, words(result)) == ("error", "The worker has no tool 'pay'.")


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such city"), "ValueError: no such city"),
        (KeyError("x"), "KeyError: 'x'"),
        (TimeoutError("the shop did not answer"), "TimeoutError: the shop did not answer"),
        (ToolCancelledError("left"), "ToolCancelledError: left"),
        (SystemExit(2), "SystemExit: 2"),
        (ValueError("caf\udce9"), "ValueError: caf?"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_whatever_a_tool_raises_is_an_error_result(
    stage: Stage, error: BaseException, text: str, is_async: bool
) -> None:
    def fail() -> None:
        raise error

    result = await stage.run(raising(error) if is_async else fail)

    assert (result.outcome, words(result)) == ("error", text)


async def test_what_a_tool_says_of_its_failure_is_given_whole(stage: Stage) -> None:
    """A failed command's output ends with what matters most."""
    result = await stage.run(raising(ToolFailedError("x" * 50_000 + "[exit code 1]")))

    assert result.outcome == "error"
    assert words(result) == "x" * 50_000 + "[exit code 1]"


async def test_long_error_is_cut(stage: Stage) -> None:
    result = await stage.run(raising(ValueError("x" * 1_000_000)))

    assert len(words(result)) == 10_000


@pytest.mark.parametrize(("idempotent", "warns"), [(False, True), (True, False)])
async def test_tool_out_of_time_is_ended(stage: Stage, idempotent: bool, warns: bool) -> None:
    ended = asyncio.Event()

    @tool(idempotent=idempotent)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    stage.limit(timedelta(milliseconds=20))
    result = await stage.run(hang)

    assert result.outcome == "timed_out"
    assert words(result).startswith("The call gave no result within 0.02 s.")
    assert ("may have had its effect" in words(result)) is warns
    assert ended.is_set()


async def test_tool_that_holds_on_to_its_cancellation_is_not_waited_for(stage: Stage) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    stage.limit(timedelta(milliseconds=20))
    result = await stage.run(stubborn)
    release.set()

    assert result.outcome == "timed_out"


async def test_interrupt_does_not_wait_for_a_tool_that_holds_on(stage: Stage) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                started.set()
                await release.wait()

    async with stage.running(stubborn) as call:
        await asyncio.wait_for(started.wait(), SOON.total_seconds())
        stage.environment.cancel()
        result = await call
    release.set()

    assert result.outcome == "interrupted"


async def test_sync_tool_out_of_time_is_told_and_not_waited_for(stage: Stage) -> None:
    told = threading.Event()

    def hang(context: ToolContext) -> None:
        try:
            context.sleep_blocking(SOON)
        except ToolCancelledError:
            told.set()
            raise

    stage.limit(timedelta(milliseconds=20))
    result = await stage.run(hang)

    assert result.outcome == "timed_out"
    assert await asyncio.to_thread(told.wait, SOON.total_seconds())


# --- where it runs ---------------------------------------------------------------------------------------------------


async def test_sync_tool_runs_off_the_loop(stage: Stage) -> None:
    async def on_loop() -> int:
        return threading.get_ident()

    def in_thread() -> int:
        return threading.get_ident()

    assert words(await stage.run(on_loop)) == str(threading.get_ident())
    assert words(await Stage(stage.threads).run(in_thread)) != str(threading.get_ident())


async def test_two_sync_tools_run_at_the_same_time(threads: ThreadPoolExecutor) -> None:
    meeting = threading.Barrier(2, timeout=SOON.total_seconds())

    def meet() -> int:
        return meeting.wait()

    results = await asyncio.gather(Stage(threads).run(meet), Stage(threads).run(meet))

    assert {words(result) for result in results} == {"0", "1"}


async def test_sync_tool_sees_the_context_variables_of_its_call(stage: Stage) -> None:
    def read() -> str:
        return trace.get()

    trace.set("abc")

    assert words(await stage.run(read)) == "abc"


async def test_sync_tool_may_ask_temporal_about_its_activity(stage: Stage) -> None:
    def read() -> str:
        return activity.info().workflow_id or ""

    assert words(await stage.run(read)) == "acme/sesn_1"


# --- interrupts and heartbeats ---------------------------------------------------------------------------------------


async def test_interrupted_call_returns_its_one_result(stage: Stage) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with stage.running(hang) as call:
        await asyncio.wait_for(started.wait(), SOON.total_seconds())
        stage.environment.cancel()
        result = await call

    assert result.outcome == "interrupted"
    assert ended.is_set()


async def test_interrupted_sync_tool_is_told_and_not_waited_for(stage: Stage) -> None:
    started, left = threading.Event(), threading.Event()

    def hang(context: ToolContext) -> None:
        started.set()
        try:
            context.sleep_blocking(SOON)
        except ToolCancelledError:
            assert context.cancelled
            left.set()

    async with stage.running(hang) as call:
        await asyncio.to_thread(started.wait, SOON.total_seconds())
        stage.environment.cancel()
        result = await call

    assert result.outcome == "interrupted"
    assert await asyncio.to_thread(left.wait, SOON.total_seconds())


@pytest.mark.parametrize(
    "details",
    [
        ActivityCancellationDetails(worker_shutdown=True),
        ActivityCancellationDetails(timed_out=True),
        ActivityCancellationDetails(not_found=True),
    ],
    ids=["worker stops", "out of time", "session gone"],
)
async def test_call_that_nobody_interrupted_has_no_result(stage: Stage, details: ActivityCancellationDetails) -> None:
    """Then it is not for this worker to say how it ended: the server attempts it again, or calls it unknown."""
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    async with stage.running(hang) as call:
        await asyncio.wait_for(started.wait(), SOON.total_seconds())
        stage.environment.cancel(details)
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_progress_rides_on_the_heartbeat(stage: Stage, is_async: bool) -> None:
    seen = threading.Event()

    async def work(context: ToolContext) -> str:
        context.progress("half")
        await stage.beaten.wait()
        return "done"

    def work_blocking(context: ToolContext) -> str:
        context.progress("half")
        seen.wait(SOON.total_seconds())
        return "done"

    function: Callable[..., object] = work if is_async else work_blocking
    async with stage.running(function) as call:
        await asyncio.wait_for(stage.beaten.wait(), SOON.total_seconds())
        seen.set()
        result = await call

    assert words(result) == "done"
    assert stage.heartbeats[0] == ToolPreview(tool_use_id=ID, progress="half")


@pytest.mark.parametrize(("said", "shown"), [("x" * 5000 + "end", "x" * 3997 + "end"), ("caf\udce9", "caf?")])
async def test_progress_that_does_not_fit_a_heartbeat_is_made_to(stage: Stage, said: str, shown: str) -> None:
    async def work(context: ToolContext) -> str:
        context.progress(said)
        await stage.beaten.wait()
        return "done"

    result = await stage.run(work)

    assert words(result) == "done"
    assert stage.heartbeats[0] == ToolPreview(tool_use_id=ID, progress=shown)
