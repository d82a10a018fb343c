"""Processes: starting them, noticing their end, and ending them with all that came of them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from contextlib import suppress
from typing import Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PASSES = 100
"""How often a tree of processes is walked that grows while it is being stopped."""

# Holds on to Python's lock: it is called between fork and exec, where no other thread is left to give it back.
_prctl = getattr(ctypes.PyDLL(None), "prctl", None)


class Child:
    """A process that the guest has started."""

    def __init__(self, started: subprocess.Popen[bytes], ended: asyncio.Future[int]) -> None:
        self.started = started
        self.pid = started.pid
        self.ended = ended
        """Its exit code, or minus the signal that killed it."""

    def kill(self) -> None:
        """End it and everything that descends from it, even what has left its group and session. Safe to repeat."""
        if not self.ended.done():
            kill_below(self.pid, stop_first=self.pid)
        # Also after its own end: those of its group that it left behind.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class Children:
    """Starts processes and reaps whatever ends. One for the guest; needs the loop of the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: dict[int, Child] = {}
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
        program: str | None = None,
        keep: Sequence[int] = (),
    ) -> Child:
        """Start a process in a session of its own.

        Args:
            program: What to start, if that is not the first of the arguments.
            keep: More files that it inherits, under the same numbers.

        Raises:
            OSError: It could not be started.
        """
        started = subprocess.Popen(
            list(argv),
            executable=program,
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(keep),
            start_new_session=True,
            preexec_fn=_adopt,
        )
        child = Child(started, self._loop.create_future())
        self._running[child.pid] = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._running.pop(pid, None)
            # Others are orphans: they come to the guest when what started them is gone.
            if child is not None:
                code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                child.started.returncode = code
                child.ended.set_result(code)


def _adopt() -> None:
    """In the new process: what its descendants leave behind becomes its child, so that it can be found and ended."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def guard_self() -> None:
    """Keep other processes of the same user from the guest's memory and open files, and adopt all orphans."""
    if _prctl is not None:
        _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_below(root: int, *, stop_first: int | None = None) -> None:
    """Kill all descendants of a process. They are stopped first, so that none starts another in the meantime."""
    if stop_first is not None:
        _signal(stop_first, signal.SIGSTOP)
    stopped: set[int] = set()
    for _ in range(_PASSES):
        fresh = set(_descendants(root)) - stopped
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped |= fresh
        if not fresh:
            break
    for pid in stopped:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in _processes():
        parent = _parent(name)
        if parent is not None:
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _processes() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []  # not Linux: the group must do


def _parent(pid: str) -> int | None:
    try:
        with open("/proc/" + pid + "/stat", "rb") as file:
            # The name in parentheses may hold anything, parentheses too.
            state, parent = file.read().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else int(parent)
