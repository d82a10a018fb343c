"""The ops ``run`` and ``code``: a program that runs once."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from typing import Mapping, Sequence

from .output import Output
from .pipe import Pipe
from .process import Child, Children
from .scratch import Scratch
from .wire import OpError

LANGUAGES = {
    "python": (("python3", "python"), ".py"),
    "node": (("node", "nodejs"), ".js"),
    "sh": (("sh",), ".sh"),
}
"""The interpreters of a language, of which the first that is there serves, and how its files end."""


class Commands:
    """Starts programs.

    Args:
        env: Variables that each of them gets.
    """

    def __init__(self, children: Children, *, env: Mapping[str, str], scratch: Scratch) -> None:
        self._children = children
        self._env = env
        self._scratch = scratch

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        seconds: float,
        stdout: Output,
        stderr: Output,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Mapping[str, object]:
        """Run a program to its end, and end what it leaves behind. Cancelling it kills it at once.

        Returns:
            What it wrote, ``exit_code`` (minus a signal's number) and ``timed_out``.
        """
        loop = asyncio.get_running_loop()
        pipes = [Pipe(loop, stdout.feed), Pipe(loop, stderr.feed)]
        try:
            child = self._start(argv, cwd, {**self._env, **(env or {})}, stdin, pipes)
            try:
                await asyncio.wait({child.ended}, timeout=seconds)
                timed_out = not child.ended.done()
            finally:
                child.kill()
            code = await child.ended
            for pipe in pipes:
                pipe.drain()
        finally:
            for pipe in pipes:
                pipe.close()
        return {"stdout": stdout.finish(), "stderr": stderr.finish(), "exit_code": code, "timed_out": timed_out}

    async def code(
        self, language: str, code: str, *, cwd: str, seconds: float, stdout: Output, stderr: Output
    ) -> Mapping[str, object]:
        """Run a text as a program.

        Raises:
            OpError: The sandbox does not have the language.
        """
        argv, ending = self._interpreter(language)
        path = self._save(code, ending)
        try:
            # The file lies elsewhere, and modules of the working directory are to be found all the same.
            env = {"PYTHONPATH": os.pathsep.join(filter(None, [cwd, self._env.get("PYTHONPATH")]))}
            return await self.run([*argv, path], cwd=cwd, seconds=seconds, stdout=stdout, stderr=stderr, env=env)
        finally:
            with suppress(OSError):
                os.unlink(path)

    def _save(self, code: str, ending: str) -> str:
        try:
            # In the workspace, so that Node.js finds the packages that are installed there.
            file, path = tempfile.mkstemp(ending, "", self._scratch.folder("code"))
            with os.fdopen(file, "wb") as script:
                script.write(code.encode("utf-8", "replace"))
        except OSError as error:
            raise OpError("failed", f"the code cannot be saved: {error.strerror or error}") from None
        return path

    def _interpreter(self, language: str) -> tuple[Sequence[str], str]:
        if language not in LANGUAGES:
            raise OpError("invalid", f"language {language!r} is not one of {', '.join(sorted(LANGUAGES))}")
        names, ending = LANGUAGES[language]
        for name in names:
            found = shutil.which(name, path=self._env.get("PATH"))
            if found:
                return [found], ending
        if language == "python":
            return [sys.executable], ending
        raise OpError("failed", f"this sandbox has no {names[0]}")

    def _start(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str], stdin: str | None, pipes: Sequence[Pipe]
    ) -> Child:
        source = _source(stdin)
        try:
            return self._children.spawn(
                argv, cwd=cwd, env=env, stdin=source, stdout=pipes[0].write, stderr=pipes[1].write
            )
        except (OSError, ValueError, IndexError) as error:
            name, reason = argv[0] if argv else "", getattr(error, "strerror", None) or str(error)
            raise OpError("failed", f"{name!r} does not start: {reason}") from None
        finally:
            os.close(source)
            for pipe in pipes:
                pipe.started()


def _source(text: str | None) -> int:
    """A file with what the program is to read: unlike a pipe, it needs nobody to write while the program runs."""
    if text is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        file.write(text.encode("utf-8", "replace"))
        file.seek(0)
        return os.dup(file.fileno())
