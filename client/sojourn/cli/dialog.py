"""The conversation of `sojourn chat`: lines in, events out, one after the other."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager, suppress

from sojourn.cli.board import Board, Call
from sojourn.cli.output import Output
from sojourn.cli.prompt import Prompt
from sojourn.cli.question import ask_person
from sojourn.cli.render import call_text, snippet
from sojourn.cli.transcript import Transcript
from sojourn.client import AgentRuntime, SessionHandle
from sojourn.client.outcome import patiently
from sojourn.client.update import has_worker
from sojourn.types import (
    ActionRequiredError,
    AgentCustomToolUse,
    ConflictError,
    EventDelta,
    EventStart,
    InvalidRequestError,
    NotFoundError,
    Preview,
    ProviderError,
    SessionEvent,
    SessionStatus,
    SojournError,
    ToolProgress,
    UserMessage,
    WorkerUnavailableError,
)
from sojourn.types.event import Remember
from sojourn.types.question import ASK_USER, Question, read_questions

_HELP = """\
/status    where the session stands
/pause     hold before the next step
/resume    go on
/archive   end the session for good
/quit      leave; the session goes on (so does Ctrl-D)
Ctrl-C     end the turn in progress"""


class Dialog:
    """Talks to one session until the lines or the session end."""

    def __init__(self, runtime: AgentRuntime, session: SessionHandle, *, out: Output, prompt: Prompt) -> None:
        self._runtime = runtime
        self._session = session
        self._out = out
        self._prompt = prompt
        self._transcript = Transcript(out, echo=not prompt.interactive)
        self._board = Board()
        self._stream: AsyncGenerator[SessionEvent | Preview, None]
        self._interrupting: asyncio.Task[None] | None = None
        self._streaming = False
        self._warned = False

    async def run(self) -> None:
        """Show what was said before, then talk.

        Raises:
            ActionRequiredError: The lines of a pipe ended while the session waits for an answer.
            KeyboardInterrupt: Ctrl-C where there is no turn to end.
            ProviderError: The last turn that the lines of a pipe asked for has failed.
        """
        await self._recall()
        # What a person watches is shown while it is written; programs get whole events.
        previews = not self._out.as_json
        async with self._runtime.follow(self._session, from_seq=self._board.seq, previews=previews) as events:
            self._stream = patiently(events, self._check)
            with _sigint(self._on_sigint), suppress(EOFError):
                await self._talk()
            await self._stream.aclose()
        self._finish()

    async def _recall(self) -> None:
        log = await self._runtime.list_events(self._session)
        turns = [place for place, event in enumerate(log) if isinstance(event, UserMessage)]
        # The last three turns are enough to remember what it was about.
        begin = turns[-3] if len(turns) > 3 else 0
        if begin:
            self._out.note(f"… all of it: sojourn sessions events {self._session.id}")
        for place, event in enumerate(log):
            self._board.feed(event)
            if place >= begin:
                self._transcript.show(event)

    async def _talk(self) -> None:
        await self._settle()
        while not self._board.status.is_terminal:
            line = await self._line()
            if self._prompt.interactive and line.startswith("/"):
                await self._order(line)
            elif line.strip():
                sent = await self._session.send(line)
                self._board.sent(sent.id)
                self._transcript.own(sent.id)
            await self._settle()

    async def _line(self) -> str:
        """The next line. A first Ctrl-C is forgiven."""
        try:
            return await self._prompt.ask("> ")
        except KeyboardInterrupt:
            self._out.note("Ctrl-C again or Ctrl-D leaves; the session goes on")
        try:
            return await self._prompt.ask("> ")
        except KeyboardInterrupt:
            raise EOFError from None

    async def _settle(self) -> None:
        """Show events until the person has nothing to do but to say something."""
        while True:
            await self._watch()
            if not self._board.waiting:
                return
            await self._decide(self._board.waiting[0])

    async def _watch(self) -> None:
        self._streaming = True
        try:
            while not self._board.is_our_move:
                event = await anext(self._stream, None)
                if event is None:
                    self._board.status = SessionStatus.COMPLETED
                    break
                self._warned = False
                self._transcript.show(event)
                if not isinstance(event, EventStart | EventDelta | ToolProgress):
                    self._board.feed(event)
        finally:
            self._streaming, self._interrupting = False, None
            self._transcript.close()

    async def _decide(self, call: Call) -> None:
        """Ask the person about one tool call, and tell the session."""
        try:
            await (self._result(call) if isinstance(call, AgentCustomToolUse) else self._permission(call))
        except KeyboardInterrupt:
            await self._session.interrupt()
            self._board.answered(self._board.waiting)
        except (ConflictError, NotFoundError) as error:
            # Somebody else was faster, or its time was over.
            self._out.note(str(error))
            self._board.answered([call])

    async def _permission(self, call: Call) -> None:
        wanted = snippet(call_text(call.name, call.input))
        while not (said := (await self._prompt.ask(f"  allow {wanted}? {_CHOICES} ")).strip()):
            pass
        remember = _ALWAYS.get(said.lower())
        allow = said.lower() in ("y", "yes") or remember is not None
        reason = None if allow or said.lower() in ("n", "no") else said
        await self._session.confirm(call, allow=allow, message=reason, remember=remember)
        self._board.answered([call])

    async def _result(self, call: Call) -> None:
        if call.name == ASK_USER and (questions := _questions(call)):
            given = [await ask_person(each, out=self._out, prompt=self._prompt) for each in questions]
            await self._session.answer(call, given)
            return self._board.answered([call])
        wanted = snippet(call_text(call.name, call.input))
        said = (await self._prompt.ask(f"  result of {wanted} [text, or error: text] ")).strip()
        is_error = said.lower().startswith("error:")
        await self._session.answer(call, said[6:].strip() if is_error else said, is_error=is_error)
        self._board.answered([call])

    async def _order(self, line: str) -> None:
        """Do what a line with a slash asks for."""
        match line.split()[0]:
            case "/quit" | "/exit":
                raise EOFError
            case "/status":
                self._out.line((await self._session.status()).value)
            case "/pause" | "/resume" | "/archive" as order:
                try:
                    await getattr(self._session, order[1:])()
                except SojournError as error:
                    self._out.note(str(error))
                else:
                    self._board.expect()
            case _:
                self._out.line(_HELP)

    def _on_sigint(self, leave: Callable[[], object]) -> None:
        """End the turn; where there is none, or it does not end, leave."""
        if not self._streaming or self._interrupting is not None:
            leave()
            return
        self._transcript.close()
        self._out.note("interrupting; Ctrl-C again leaves")
        self._interrupting = asyncio.ensure_future(self._session.interrupt())

    async def _check(self) -> None:
        """Say once that a silence has a reason."""
        if not self._warned and not await has_worker(self._runtime.client, self._runtime.task_queue):
            self._warned = True
            self._out.note(str(WorkerUnavailableError(self._runtime.task_queue)))

    def _finish(self) -> None:
        """Make what a pipe's last lines came to the outcome of the command."""
        if self._prompt.interactive:
            return
        if self._board.waiting:
            raise ActionRequiredError([str(call.id) for call in self._board.waiting])
        if (failure := self._board.failure) is not None:
            raise ProviderError(failure.message, category=failure.type)


_CHOICES = "[y/n/always/reason to deny]"
_ALWAYS: dict[str, Remember] = {
    "always": "session",
    "always this": "session",
    "always session": "session",
    "always agent": "agent",
    "always global": "global",
}
"""Of this very call, never of the whole tool."""


def _questions(call: Call) -> tuple[Question, ...]:
    """What the agent asks; nothing where a tool of the client has the name."""
    try:
        return read_questions(call.input).questions
    except InvalidRequestError:
        return ()


@contextmanager
def _sigint(handler: Callable[[Callable[[], object]], None]) -> Generator[None, None, None]:
    """Call the handler on Ctrl-C. It is given a function that ends the block with `KeyboardInterrupt`."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    # Windows has no such handlers; there Ctrl-C cancels the task at once.
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGINT, handler, task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        if sys.platform != "win32":
            loop.remove_signal_handler(signal.SIGINT)
