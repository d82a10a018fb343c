"""Where a chat's lines come from: a terminal, or a pipe."""

import asyncio
import sys
import threading
from typing import Protocol


class Prompt(Protocol):
    """Asks for a line."""

    interactive: bool
    """Whether a person sits there."""

    async def ask(self, question: str) -> str:
        """The next line.

        Raises:
            EOFError: There are no more.
            KeyboardInterrupt: Ctrl-C instead of a line.
        """
        ...


class TerminalPrompt:
    """Line editing with history."""

    interactive = True

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession()

    async def ask(self, question: str) -> str:
        """See `Prompt.ask`."""
        return await self._session.prompt_async(question, handle_sigint=False)


class PipedPrompt:
    """Standard input that is no terminal: a line is what would be typed."""

    interactive = False

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        # A thread of its own, because a regular file cannot be waited for, and a daemon, because reading a pipe cannot
        # be cancelled.
        threading.Thread(target=self._read, daemon=True, name="stdin").start()

    async def ask(self, question: str) -> str:
        """See `Prompt.ask`. Nothing is shown, and blank lines are passed over."""
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
            raise EOFError
        return line

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip():
                self._put(line.rstrip("\n"))
        self._put(None)

    def _put(self, line: str | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def open_prompt() -> Prompt:
    """The prompt that fits standard input."""
    return TerminalPrompt() if sys.stdin.isatty() else PipedPrompt()
