"""How much memory a sandbox takes, seen from outside it, where no program in it can lie about it or stop the count."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

INTERVAL = timedelta(milliseconds=200)
"""Between two looks. A program can take about a gigabyte in that time."""

_KIB = 1024
_QUICK = ("RssAnon:", "RssShmem:", "VmSwap:")
_EXACT = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")

# Not the loop's own threads: when those are all busy, nobody would look.
_LOOKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sojourn-memory")


class Meter:
    """Counts the memory of some processes, and of folders in memory.

    Files that are mapped from a disk do not count: the kernel takes their memory back when it needs it.
    """

    def __init__(self, processes: Callable[[], Iterable[Path]], folders: Iterable[Path] = ()) -> None:
        self._processes = processes
        self._folders = tuple(folders)

    @classmethod
    def of_namespace(cls, init: int) -> "Meter":
        """What lives in the process namespace whose first process is ``init``, and its files in memory."""
        root = Path("/proc", str(init), "root")
        # Its own /proc lists exactly what runs in it, however deep it hides.
        return cls(lambda: _entries(root / "proc"), (root / "tmp", root / "dev/shm"))

    @classmethod
    def of_family(cls, pid: int) -> "Meter":
        """A process and what descends from it."""
        return cls(lambda: _family(pid))

    def count(self, *, exact: bool = True) -> int:
        """Bytes in use. Not exact, what processes share counts for each: never less than the exact number."""
        file, names = ("smaps_rollup", _EXACT) if exact else ("status", _QUICK)
        taken = sum(_sum(process / file, names) for process in self._processes())
        return taken + sum(_filled(folder) for folder in self._folders)

    def over(self, limit_bytes: int) -> bool:
        """Whether more than that is in use. The exact number costs more, so it is not asked for in vain."""
        return self.count(exact=False) > limit_bytes and self.count() > limit_bytes


async def overflow(meter: Meter, limit_bytes: int) -> str:
    """Wait until more than ``limit_bytes`` are in use; says so in one line."""
    loop = asyncio.get_running_loop()
    while not await loop.run_in_executor(_LOOKER, meter.over, limit_bytes):  # noqa: ASYNC110 (nobody tells)
        await asyncio.sleep(INTERVAL.total_seconds())
    return f"out of memory (over {readable(limit_bytes)})"


def readable(size_bytes: int) -> str:
    """A number of bytes for people."""
    return f"{size_bytes / _KIB**3:.1f} GiB" if size_bytes >= _KIB**3 else f"{size_bytes / _KIB**2:.0f} MiB"


def _entries(proc: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (proc / name for name in os.listdir(proc) if name.isdigit())


def _family(pid: int) -> Iterator[Path]:
    yield Path("/proc", str(pid))
    with suppress(OSError):
        for thread in Path("/proc", str(pid), "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _family(int(child))


def _sum(path: Path, names: tuple[str, ...]) -> int:
    """The lines of a file of the kernel that begin with these names; zero for a process that is gone."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * _KIB for line in lines if line.startswith(names))


def _filled(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize
