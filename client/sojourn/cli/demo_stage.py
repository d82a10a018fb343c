"""Where the demonstration plays: a server, a worker process, a session that is watched, a second client, a reader."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from sojourn.cli.demo_process import DemoProcess
from sojourn.cli.demo_screen import Screen
from sojourn.client import AgentRuntime, SessionHandle
from sojourn.testing.demo import Effect, ledger_path, read_ledger
from sojourn.types import (
    EventDelta,
    EventId,
    EventStart,
    SessionEvent,
    SessionId,
    SessionTerminated,
    ToolProgress,
    UserEvent,
)

T = TypeVar("T")

PATIENCE = timedelta(seconds=30)
"""Longest wait for anything with the scripted model."""
MODEL_PATIENCE = timedelta(minutes=5)
"""The same with a model that thinks."""
QUIET = timedelta(seconds=2)
"""After so long without a line there is a sign of life."""


class DemoError(Exception):
    """The demonstration cannot go on."""


class ModelError(DemoError):
    """The model gave no answer; nothing of ours is to blame."""


class Crew:
    """The processes beside this one."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.ledgers = folder.absolute() / "ledger"
        self.ledgers.mkdir(parents=True, exist_ok=True)
        self.log = folder / "process.log"
        self.streamed = folder.absolute() / "streamed.jsonl"
        """What the reader has seen."""
        self._processes: list[DemoProcess] = []

    async def worker(self) -> DemoProcess:
        """Start a worker."""
        return await self._start("worker", self.address, str(self.ledgers))

    async def reader(self, session_id: SessionId) -> DemoProcess:
        """Start a process that streams the session as this one does."""
        return await self._start("reader", self.address, session_id, str(self.streamed))

    def failure(self) -> int | None:
        """Exit code of a process that ended badly and was not killed by us."""
        return next((process.exit_code for process in self._processes if process.failed), None)

    def complaints(self) -> str:
        """The end of what the processes wrote to their standard error."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    async def stop(self) -> None:
        """End all of them."""
        await asyncio.gather(*(process.stop() for process in self._processes))

    async def _start(self, *arguments: str) -> DemoProcess:
        process = await DemoProcess.start(*arguments, log=self.log)
        self._processes.append(process)
        return process


class Stage:
    """One session, watched from its first event on."""

    def __init__(
        self,
        *,
        screen: Screen,
        runtime: AgentRuntime,
        session: SessionHandle,
        crew: Crew,
        second: AgentRuntime,
        scripted: bool,
    ) -> None:
        self.screen = screen
        self.runtime = runtime
        self.session = session
        self.crew = crew
        self.second = second
        """Another connection to the server, as another client would have."""
        self.scripted = scripted
        self.patience = PATIENCE if scripted else MODEL_PATIENCE
        self.events: list[SessionEvent] = []
        self.previews: dict[EventId, str] = {}
        self.progress: list[ToolProgress] = []
        self.sent: list[EventId] = []
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def send(self, event: UserEvent, *, runtime: AgentRuntime | None = None) -> EventId:
        """Send a client event, from the second connection if that is given."""
        (sent,) = await (runtime or self.runtime).send_event(self.session, event)
        if sent.id not in self.sent:
            self.sent.append(sent.id)
        return sent.id

    def effects(self) -> list[Effect]:
        """What the tools have done so far."""
        return read_ledger(ledger_path(self.crew.ledgers, self.session.id))

    async def until(self, what: str, find: Callable[[], T | None]) -> T:
        """Wait until there is something to find, and show that we wait.

        Raises:
            DemoError: It did not come in time.
        """
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                while (found := find()) is None:
                    self._fail_early()
                    self._changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.05):
                            await self._changed.wait()
                    if self.screen.silent_seconds > QUIET.total_seconds():
                        self.screen.waiting(f"waiting for {what}")
        except TimeoutError:
            raise DemoError(f"waited {self.patience.total_seconds():g} s for {what} in vain") from None
        return found

    def ended(self) -> bool | None:
        """True once the terminal event has been seen."""
        return any(isinstance(event, SessionTerminated) for event in self.events) or None

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None, None]:
        """Show the log while the block runs."""
        self._watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._watching.cancel()
            await asyncio.wait((self._watching,))

    def _fail_early(self) -> None:
        if self._watching is not None and self._watching.done():
            self._watching.result()
        if code := self.crew.failure():
            raise DemoError(f"a process beside this one ended with exit code {code}")

    async def _watch(self) -> None:
        async for event in self.session.events(from_seq=0, previews=True):
            if isinstance(event, EventStart):
                self.previews[event.event.id] = ""
            elif isinstance(event, EventDelta):
                self.previews[event.event_id] += event.delta.content.text
                self.screen.preview(event)
            elif isinstance(event, ToolProgress):
                self.progress.append(event)
                self.screen.preview(event)
            else:
                self.events.append(event)
                self.screen.event(event)
            self._changed.set()
