"""The op ``bash``: one shell for the whole sandbox, made when it is needed and made anew when it is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Mapping

from .output import Output
from .process import Children
from .shell import Shell
from .wire import Arguments, OpError

DEFAULT_SECONDS = 120.0
MOST_SECONDS = 600.0


class Bash:
    """The shell as the agent sees it.

    Args:
        env: Variables it starts with.
    """

    def __init__(self, children: Children, *, cwd: str, env: Mapping[str, str]) -> None:
        self._children = children
        self._cwd = cwd
        self._env = env
        self._turn = asyncio.Lock()
        self._shell: Shell | None = None
        self._restarted = False

    async def run(self, arguments: Arguments, output: Output) -> Mapping[str, object]:
        """Run a command after those before it. Cancelling it kills the shell with all that it has started.

        Returns:
            The output; ``exit_code`` (minus a signal's number; ``None`` if the time was over); ``ended`` if the shell
            went: ``exited``, ``timed_out`` or ``restarted``; and ``renewed`` if that of the last command was gone.
        """
        command = arguments.text("command")
        seconds = arguments.seconds("timeout_seconds", default=DEFAULT_SECONDS, most=MOST_SECONDS)
        async with self._turn:
            renewed = self._shell is not None and not self._shell.alive
            shell = self._ready()
            self._restarted = False
            try:
                code = await shell.run(command, output.feed, seconds=seconds)
            except asyncio.CancelledError:
                shell.kill()
                raise
            ended = None if code is not None else self._over(shell)
        if ended == "exited":
            code = shell.child.ended.result()
        return {"output": output.finish(), "exit_code": code, "ended": ended, "renewed": renewed}

    def restart(self) -> None:
        """Kill the shell, whatever it is doing, and start another."""
        if self._shell is not None and self._shell.alive:
            self._restarted = True
            self._shell.kill()
        self._shell = None
        self._ready()

    def _ready(self) -> Shell:
        if self._shell is None or not self._shell.alive:
            if self._shell is not None:
                self._shell.close()
            bash = shutil.which("bash", path=self._env.get("PATH")) or "/bin/bash"
            try:
                cwd = self._cwd if os.path.isdir(self._cwd) else "/"
                self._shell = Shell(self._children, bash, cwd=cwd, env=self._env)
            except OSError as error:
                raise OpError("failed", f"the shell does not start: {error.strerror or error}") from None
        return self._shell

    def _over(self, shell: Shell) -> str:
        if self._restarted:
            return "restarted"
        # Told with this result, and so not once more with the next.
        self._shell = None
        if shell.alive:
            shell.kill()
            return "timed_out"
        shell.close()
        return "exited"
