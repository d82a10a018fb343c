"""The ops by name: what a call's arguments mean, and where its work is done."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Awaitable, BinaryIO, Callable, Mapping

from . import grep
from .bash import MOST_SECONDS, Bash
from .command import Commands
from .file import Files
from .forward import listen
from .output import Output
from .place import MOUNTS_VARIABLE, Places
from .process import Children
from .scratch import Scratch
from .search import Search
from .wire import Arguments, OpError

PROXY_VARIABLE = "SOJOURN_PROXY"
PROXY_SOCKET = "/run/sojourn/proxy.sock"
RUN_SECONDS = 30.0

_SHOW_SECONDS = 0.1
_GREP_SECONDS = 30.0
_THREADS = 8
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
_DEFAULTS = {"TERM": "dumb", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}
"""Variables without which programs would wait for a person."""

Operation = Callable[["Call"], Awaitable[Mapping[str, object]]]


class Call:
    """One call while it runs.

    Args:
        tell: Shows something to people who watch.
    """

    def __init__(self, arguments: Arguments, tell: Callable[[str], None]) -> None:
        self.arguments = arguments
        self.tell = tell

    async def shown(self, output: Output, work: Awaitable[Mapping[str, object]]) -> Mapping[str, object]:
        """Do the work, and show the end of its output in the meantime."""
        watch = asyncio.ensure_future(self._show(output))
        try:
            return await work
        finally:
            watch.cancel()

    async def _show(self, output: Output) -> None:
        told = 0
        while True:
            await asyncio.sleep(_SHOW_SECONDS)
            if output.size_bytes > told:
                told = output.size_bytes
                self.tell(output.tail())


class Operations:
    """Everything the guest can do.

    Args:
        env: The guest's own environment.
    """

    def __init__(self, children: Children, env: Mapping[str, str]) -> None:
        self._places = Places.of(env)
        self._proxy = env.get(PROXY_VARIABLE, PROXY_SOCKET)
        own = (MOUNTS_VARIABLE, PROXY_VARIABLE)
        # One table that all children get a copy of, so that what `forward` finds out reaches those to come.
        self._env: dict[str, str] = {**_DEFAULTS, **{key: value for key, value in env.items() if key not in own}}
        self._scratch = Scratch(self._places)
        self._files = Files(self._places)
        self._search = Search(self._places)
        self._bash = Bash(children, cwd=self._places.working_dir, env=self._env)
        self._commands = Commands(children, env=self._env, scratch=self._scratch)
        self._threads = ThreadPoolExecutor(_THREADS)

    def by_name(self) -> Mapping[str, Operation]:
        return {
            "bash": self._run_bash,
            "restart": self._restart,
            "run": self._run,
            "code": self._code,
            "read": lambda call: self._in_thread(self._files.read, call),
            "write": lambda call: self._in_thread(self._files.write, call),
            "edit": lambda call: self._in_thread(self._files.edit, call),
            "glob": self._glob,
            "grep": self._grep,
            "spill": lambda call: self._in_thread(self._spill, call),
            "forward": self._forward,
            "ping": self._ping,
        }

    async def _run_bash(self, call: Call) -> Mapping[str, object]:
        output = self._output(call)
        return await call.shown(output, self._bash.run(call.arguments, output))

    async def _restart(self, call: Call) -> Mapping[str, object]:
        self._bash.restart()
        return {}

    async def _run(self, call: Call) -> Mapping[str, object]:
        stdout = self._output(call, ".stdout")
        work = self._commands.run(
            call.arguments.texts("argv"),
            stdin=call.arguments.optional_text("stdin"),
            cwd=self._places.real(call.arguments.optional_text("cwd") or "."),
            env=call.arguments.variables("env"),
            seconds=call.arguments.seconds("timeout_seconds", default=RUN_SECONDS, most=MOST_SECONDS),
            stdout=stdout,
            stderr=self._output(call, ".stderr"),
        )
        return await call.shown(stdout, work)

    async def _code(self, call: Call) -> Mapping[str, object]:
        stdout = self._output(call, ".stdout")
        work = self._commands.code(
            call.arguments.text("language"),
            call.arguments.text("code"),
            cwd=self._places.working_dir,
            seconds=call.arguments.seconds("timeout_seconds", default=RUN_SECONDS, most=MOST_SECONDS),
            stdout=stdout,
            stderr=self._output(call, ".stderr"),
        )
        return await call.shown(stdout, work)

    async def _glob(self, call: Call) -> Mapping[str, object]:
        cancelled = threading.Event()
        try:
            return await self._in_thread(lambda arguments: self._search.glob(arguments, cancelled), call)
        finally:
            cancelled.set()

    async def _grep(self, call: Call) -> Mapping[str, object]:
        found, wrong = Output(_nowhere, limit=2 * grep.LIMIT), Output(_nowhere)
        done = await self._commands.run(
            [sys.executable, "-I", "-B", _PROGRAM, "grep"],
            stdin=json.dumps(self._sought(call.arguments)),
            cwd="/",
            seconds=_GREP_SECONDS,
            stdout=found,
            stderr=wrong,
        )
        if done["timed_out"]:
            raise OpError("failed", f"grep: timed out after {_GREP_SECONDS:g} s; narrow the pattern or the path")
        if done["exit_code"] != 0:
            raise OpError("failed", wrong.tail() or f"grep: failed (exit code {done['exit_code']})")
        return {"text": found.finish()["text"]}

    def _sought(self, arguments: Arguments) -> Mapping[str, str]:
        path = arguments.optional_text("path") or "."
        root = os.path.normpath(self._places.real(path))
        if not os.path.exists(root):
            raise OpError("failed", f"grep: {path}: no such file or directory")
        return {"pattern": arguments.text("pattern"), "root": root, "prefix": self._places.shown(root)}

    def _spill(self, arguments: Arguments) -> Mapping[str, object]:
        """Save a text that is too long for the model. It says what the agent is to call the file."""
        try:
            file, path = self._scratch.output(arguments.text("name"))
            with file:
                file.write(arguments.text("text").encode("utf-8", "replace"))
        except OSError as error:
            raise OpError("failed", f"the output cannot be saved: {error.strerror or error}") from None
        return {"path": path}

    async def _forward(self, call: Call) -> Mapping[str, object]:
        wanted = call.arguments.whole("port")
        port = await listen(wanted, call.arguments.optional_text("socket") or self._proxy)
        if port != wanted:
            for name, value in self._env.items():
                self._env[name] = value.replace(f"127.0.0.1:{wanted}", f"127.0.0.1:{port}")
        return {"port": port}

    async def _ping(self, call: Call) -> Mapping[str, object]:
        return {}

    async def _in_thread(self, work: Callable[[Arguments], Mapping[str, object]], call: Call) -> Mapping[str, object]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, call.arguments)

    def _output(self, call: Call, ending: str = "") -> Output:
        name = call.arguments.optional_text("name") or ""
        return Output(lambda: self._scratch.output(name + ending))


def _nowhere() -> tuple[BinaryIO, str]:
    raise OSError("what a search finds is bounded")
