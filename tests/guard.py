"""Ends a process of the test run in which a test does not end.

pytest-timeout alone does not: its signal method raises once, in the main thread, where asyncio may swallow it; and with
either method it stops its clock when a test fails, so that nothing bounds the teardown of a test that failed.
"""

import asyncio
import faulthandler
import gc
import os
import signal
import threading
import traceback
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, FrameType
from typing import Any

import pytest

GRACE_SECONDS = 30
"""How long the telling may take before the process ends without it."""

END_SECONDS = 120
"""How long a process may take to end after its last test. xdist kills one that has said good-bye."""

_MARK = "PYTEST_STARTED_BY"


class Guard:
    """Clock of one process. After the time of a test it writes all stacks to standard error and ends the process.

    xdist then reports the test as failed, and a new process goes on with the rest. What the tests of a process started
    ends too: it would hold the standard error of the run, and whoever reads that would wait for it.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._timer: threading.Timer | None = None
        self._settings: Any = None
        # Processes inherit it; those of xdist, which have a starter themselves, add their own number.
        self._mark = "/".join(filter(None, (os.environ.get(_MARK), str(os.getpid()))))
        os.environ[_MARK] = self._mark
        # Where a process of xdist can still be heard; what it prints is captured.
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            self._stderr = os.dup(2)

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool:
        """Takes the place of the timer of pytest-timeout."""
        self._settings = settings
        self._timer = threading.Timer(settings.timeout, self._end, (item.nodeid, settings.timeout))
        self._timer.daemon = True
        self._timer.start()
        # Written in C, for the case that some thread holds on to the interpreter.
        faulthandler.dump_traceback_later(settings.timeout + GRACE_SECONDS, exit=True, file=self._stderr)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_cancel_timer(self) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector) -> None:
        """Start the clock again, which pytest-timeout has stopped for the sake of debuggers."""
        if isinstance(node, pytest.Item) and not node.config.getoption("usepdb"):
            self.pytest_timeout_set_timer(node, self._settings)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        faulthandler.dump_traceback_later(END_SECONDS, exit=True, file=self._stderr)

    def pytest_unconfigure(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        _kill_all(self._mark)

    def _end(self, nodeid: str, seconds: float) -> None:
        try:
            with open(self._stderr, "w", closefd=False) as out:
                out.write(f"\n{nodeid} did not end within {seconds:.0f} seconds\n")
                out.flush()
                faulthandler.dump_traceback(out)
                for task in _tasks():
                    out.write(f"\n{task!r}\n")
                    out.writelines(traceback.StackSummary.extract(_frames(task)).format())
            _kill_all(self._mark)
        finally:
            os._exit(1)


def _tasks() -> list[asyncio.Task[Any]]:
    """Tasks of all loops; those that wait stand on no thread's stack."""
    loops = [each for each in gc.get_objects() if issubclass(type(each), asyncio.AbstractEventLoop)]
    return [task for loop in loops for task in asyncio.all_tasks(loop)]


def _frames(task: asyncio.Task[Any]) -> Generator[tuple[FrameType, int], None, None]:
    """The whole chain of awaits; `Task.get_stack` ends at the outermost."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        if isinstance(waiting, CoroutineType):
            frame, waiting = waiting.cr_frame, waiting.cr_await
        elif isinstance(waiting, AsyncGeneratorType):
            frame, waiting = waiting.ag_frame, waiting.ag_await
        else:  # one step of a generator, which knows its generator, but does not say
            frame, waiting = (
                None,
                next((x for x in gc.get_referents(waiting) if isinstance(x, AsyncGeneratorType)), None),
            )
        if frame is not None:
            yield frame, frame.f_lineno


def _kill_all(mark: str) -> None:
    """Kill what was started, through however many others, by the process with the mark. Linux only."""
    wanted = f"{_MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if any(each == wanted or each.startswith(wanted + b"/") for each in path.read_bytes().split(b"\0")):
                os.kill(int(path.parent.name), signal.SIGKILL)
