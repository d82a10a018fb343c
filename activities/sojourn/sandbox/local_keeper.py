"""Starts the guest of a local sandbox, and ends it with all that it has started. A program, which needs only Python.

Arguments: a descriptor whose end means that the sandbox shall end, limits as JSON, and the command. The worker holds
the other side of the descriptor, so a worker that is killed leaves nothing running.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

LINUX = sys.platform == "linux"
_PR_SET_CHILD_SUBREAPER = 36


def main(control: int, limits: dict[str, int], command: list[str]) -> int:
    """Run the command until it or the control ends; its status as a shell would tell it."""
    if LINUX:
        # What loses its parent becomes a child of this process instead of the machine's first.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        become(limits, command)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    status = watch(control, woken, child)
    end(child)
    return status


def become(limits: dict[str, int], command: list[str]) -> None:
    """Go on as the command, in a session of its own."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for name, value in limits.items():
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (least, least))
        # Descriptors of Python's own are not inherited.
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def watch(control: int, woken: int, child: int) -> int:
    """Wait for the end of the control or the child; buries what others have left on the way."""
    while True:
        ready = select.select([control, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
        for pid, status in buried():
            if pid == child:
                return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if control in ready and not os.read(control, 1):
            return 128 + signal.SIGKILL


def buried() -> Iterator[tuple[int, int]]:
    """Children that have ended, with their status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def end(child: int) -> None:
    """Kill what is left, until there is nothing."""
    if not LINUX:
        with suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        return
    stopped: set[int] = set()
    while True:
        left = descendants()
        # What is stopped starts nothing new, so that the second look finds all.
        kind = signal.SIGKILL if left <= stopped else signal.SIGSTOP
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        stopped |= left
        list(buried())
        if not left:
            return
        time.sleep(0.002)


def descendants() -> set[int]:
    """Everything that descends from this process, zombies too."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found: set[int] = set()
    open_ends = [os.getpid()]
    while open_ends:
        for pid in children.get(open_ends.pop(), ()):
            found.add(pid)
            open_ends.append(pid)
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]))
