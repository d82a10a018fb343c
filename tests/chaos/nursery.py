"""Where workers, clients and readers are born: ``python -m tests.chaos.nursery FOLDER``.

It has imported everything and forks a process for each line ``ROLE NAME`` on its standard input, which takes
milliseconds instead of a second. What it says: ``+ PID`` for each birth, ``- PID CODE`` for each death.
"""

import asyncio
import os
import select
import sys
from pathlib import Path
from typing import NoReturn

from tests.chaos import client, reader, worker
from tests.chaos.life import tied

LOOK = 0.005
"""Seconds between two looks for the dead. No thread waits for them, because a process with threads must not fork."""


def serve(folder: Path) -> None:
    """Fork until the standard input closes, which ends all of them."""
    alive, held = os.pipe()
    unread = b""
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], LOOK)
        if ready:
            if not (data := os.read(sys.stdin.fileno(), 4096)):
                return
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                role, name = line.decode().split()
                if (pid := os.fork()) == 0:
                    os.close(held)
                    _live(folder, role, name, alive)
                _say(f"+ {pid}")
        _bury()


def _bury() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(f"- {pid} {os.waitstatus_to_exitcode(status)}")


def _say(text: str) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def _live(folder: Path, role: str, name: str, alive: int) -> NoReturn:
    """The whole life of a child."""
    output = os.open(folder / "output" / f"{role}-{name}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(alive, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    tied()
    code = 1
    try:
        match role:
            case "worker":
                asyncio.run(worker.work(folder))
            case "client":
                asyncio.run(client.play(folder, int(name)))
            case _:
                asyncio.run(reader.watch(folder, name))
        code = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        # The interpreter's teardown may crash in Temporal's native library after a clean end (temporal.md §3.5).
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
