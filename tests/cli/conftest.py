"""One worker for all tests of the command line, which itself runs as a process, as users run it."""

import asyncio
import fcntl
import itertools
import json
import os
import signal
import sys
import tempfile
import termios
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from sojourn.client import AgentRuntime
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    AskUserTool,
    CustomTool,
    EventId,
    FunctionTool,
    ModelRef,
    Owner,
    PermissionPolicy,
    RequiresAction,
    SessionIdle,
)
from sojourn.types.payload import store_of
from sojourn.worker import EmbeddedServer, SojournWorker, WorkerOptions

# A run of tests in the background has Ctrl-C switched off, and what it starts would inherit that.
_CODE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from sojourn.cli import main; main()"
PROGRAM = (sys.executable, "-c", _CODE)
TASK_QUEUE = "test-cli"
_NUMBERS = itertools.count()
PATIENCE = 45
"""Longest wait for anything, in seconds."""

WEATHER = FunctionTool(name="get_weather")
ASK = CustomTool(name="ask_human", description="Ask.", input_schema={"type": "object"})


async def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


SCRIPTS = {
    "weather": [
        ScriptedTurn(text="Let me look.", calls=[ScriptedCall("get_weather", {"city": "Paris"})]),
        ScriptedTurn(text="It is nice."),
    ],
    "human": [ScriptedTurn(calls=[ScriptedCall("ask_human", {"question": "age?"})]), ScriptedTurn(text="Thank you.")],
    "asker": [
        ScriptedTurn(
            calls=[
                ScriptedCall(
                    "ask_user",
                    {
                        "questions": [
                            {"question": "Which?", "header": "Which", "options": [{"label": "red"}, {"label": "blue"}]},
                            {
                                "question": "More?",
                                "header": "More",
                                "options": [{"label": "a"}, {"label": "b"}],
                                "multi_select": True,
                            },
                        ]
                    },
                )
            ]
        ),
        ScriptedTurn(text="Noted."),
    ],
    "slow": [ScriptedTurn(text="one two three", stall=True), ScriptedTurn(text="Here again.")],
    "broken": [ScriptedTurn(failure=ScriptedFailure(kind="fatal", message="no such key"))],
}


@dataclass(frozen=True)
class Ended:
    """What a process came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


class Sojourn(Protocol):
    """Runs the program to its end."""

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Coroutine[Any, Any, Ended]: ...


@pytest.fixture(scope="session")
async def runtime(server: EmbeddedServer) -> AsyncGenerator[AgentRuntime, None]:
    """The runtime of a worker with the scripts and the tool."""
    options = WorkerOptions(task_queue=TASK_QUEUE, graceful_shutdown=timedelta(0))
    async with SojournWorker(server.client, tools=[get_weather], scripts=SCRIPTS, options=options):
        found = AgentRuntime(server.client, owner=Owner("cli", "ada"), task_queue=TASK_QUEUE)
        yield found
        await found.close()


@pytest.fixture(scope="session")
async def agents(runtime: AgentRuntime) -> dict[str, str]:
    """Ids of agents by the name of their script."""
    asks = PermissionPolicy(tools={"get_weather": "ask"})
    definitions = [
        AgentDefinition(name="weather", model=_scripted("weather"), tools=(WEATHER,), permission_policy=asks),
        AgentDefinition(name="human", model=_scripted("human"), tools=(ASK,)),
        AgentDefinition(name="asker", model=_scripted("asker"), tools=(AskUserTool(),)),
        *(AgentDefinition(name=name, model=_scripted(name)) for name in ("echo", "slow", "broken")),
    ]
    return {each.name: (await runtime.create(each)).id for each in definitions}


def _scripted(name: str) -> ModelRef:
    return ModelRef.of(f"scripted:{name}")


@pytest.fixture
def environment(server: EmbeddedServer, tmp_path: Path) -> dict[str, str]:
    """The variables of the processes."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "SOJOURN_"))}
    # Tests that are about it say which; the others begin faster without.
    keep |= {"SOJOURN_SANDBOX": "none", "SOJOURN_WORKSPACES": str(tmp_path / "workspaces")}
    keep = {name: value for name, value in keep.items() if not name.endswith("_API_KEY")}
    terminal = {"TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"}
    ours = {"SOJOURN_TASK_QUEUE": TASK_QUEUE, "SOJOURN_WORKSPACE": "cli", "SOJOURN_USER": "ada"}
    if (store := store_of(server.client)) is not None:
        ours["SOJOURN_STORE_URL"] = store.url
    return {**keep, **ours, **terminal, "TEMPORAL_ADDRESS": server.address, "HOME": str(tmp_path)}


@pytest.fixture
def sojourn(environment: dict[str, str], runtime: AgentRuntime, nursery: "Nursery", tmp_path: Path) -> Sojourn:
    """Run the program; there is a worker."""

    async def run(*arguments: str, stdin: str = "", **variables: str) -> Ended:
        return await asyncio.wait_for(nursery.run(arguments, environment | variables, tmp_path, stdin), PATIENCE)

    return run


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


def _read(path: str) -> str:
    return Path(path).read_text()


class Nursery:
    """Runs the program in forks of a process that has imported it (`nursery.py`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._reading = asyncio.create_task(self._read())

    async def run(self, arguments: Sequence[str], variables: dict[str, str], folder: Path, stdin: str) -> Ended:
        assert self._process.stdin is not None
        with tempfile.TemporaryDirectory() as files:
            paths = [os.path.join(files, name) for name in ("in", "out", "err")]
            _write(paths[0], stdin)
            id = next(_NUMBERS)
            done = self._waiting[id] = asyncio.get_running_loop().create_future()
            request = {"id": id, "argv": arguments, "environment": variables, "folder": str(folder), "files": paths}
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            code = await done
            return Ended(code, _read(paths[1]), _read(paths[2]))

    async def close(self) -> None:
        assert self._process.stdin is not None
        # It ends what still runs, then itself.
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), PATIENCE)
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if not (waiting := self._waiting.pop(told["id"])).done():
                waiting.set_result(told["code"])


@pytest.fixture(scope="session")
async def nursery() -> AsyncGenerator[Nursery, None]:
    pipe = asyncio.subprocess.PIPE
    terminal = {"TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).parent / "nursery.py"), stdin=pipe, stdout=pipe, env=os.environ | terminal
    )
    made = Nursery(process)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def spawn(
    arguments: Sequence[str], environment: dict[str, str], folder: Path
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """The program, killed at the end if it still runs."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=folder, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Start the program and leave it running: ``async with start("up") as process``."""
    return lambda *arguments: spawn(arguments, environment, tmp_path)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self._process = process
        self.shown = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def prompted(self) -> None:
        """Wait until the program takes a line; it then switches bracketed paste on."""
        await self.see("\x1b[?2004h")

    async def see(self, text: str) -> None:
        """Wait until the text is there, after what was seen before."""
        try:
            async with asyncio.timeout(PATIENCE):
                while text not in self.shown:
                    self.shown += await _readable(self._master)
        except TimeoutError:
            raise AssertionError(f"no {text!r} in {self.shown!r}") from None
        self.shown = self.shown.partition(text)[2]

    async def end(self) -> int:
        async with asyncio.timeout(PATIENCE):
            while self._process.returncode is None:
                # A process that writes waits for its terminal to be read.
                reading = asyncio.ensure_future(_readable(self._master))
                ending = asyncio.ensure_future(self._process.wait())
                await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
        return self._process.returncode


async def _readable(file: int) -> str:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        try:
            text = os.read(file, 65536).decode(errors="replace")
        except OSError:
            text = ""
        loop.remove_reader(file)
        if not found.done():
            found.set_result(text)

    loop.add_reader(file, read)
    try:
        return await found
    finally:
        loop.remove_reader(file)


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def open_terminal(*arguments: str) -> AsyncGenerator[Terminal, None]:
        master, slave = os.openpty()
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=tmp_path,
            start_new_session=True,
            # Only from its controlling terminal does Ctrl-C reach a process.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        try:
            yield Terminal(master, process)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            os.close(master)

    return open_terminal


async def parked(runtime: AgentRuntime, session_id: str) -> EventId:
    """Wait until the session waits for one answer; the id of its call."""
    async with asyncio.timeout(PATIENCE), runtime.follow(session_id, from_seq=0) as events:
        async for event in events:
            if isinstance(event, SessionIdle) and isinstance(event.stop_reason, RequiresAction):
                return event.stop_reason.event_ids[0]
    raise AssertionError("the session ended")


@pytest.fixture
def park(runtime: AgentRuntime, agents: dict[str, str]) -> Callable[[str], Awaitable[tuple[str, EventId]]]:
    """Start a session of a script that ends up waiting: its id and the id of its call."""

    async def run(script: str) -> tuple[str, EventId]:
        session = await runtime.start_session(agents[script])
        await session.send("go")
        return session.id, await parked(runtime, session.id)

    return run


@pytest.fixture
def settle(runtime: AgentRuntime) -> Callable[[str], Awaitable[Any]]:
    return lambda session_id: runtime.wait_idle(session_id, timeout=timedelta(seconds=PATIENCE))
