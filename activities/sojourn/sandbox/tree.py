"""Files of an agent, looked at from outside: its programs may run meanwhile, and put links where folders were.

So nothing here follows a link, and a folder is opened from the folder above it, never by its whole path.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

MAX_DEPTH = 200
"""Folders inside each other; what lies deeper is left out."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What has become a pipe meanwhile must not hold us.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a folder, as it was when it was come to."""

    path: str
    """From the folder that was walked, with slashes."""
    name: str
    parent: int
    """Descriptor of the folder that it is in; open until the walk goes on."""
    stat: os.stat_result

    @property
    def is_file(self) -> bool:
        """Whether it is an ordinary file."""
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.stat.st_mode)

    def open(self) -> int:
        """Open the file; the descriptor.

        Raises:
            OSError: It is no ordinary file any more, or may not be read.
        """
        file = os.open(self.name, _FILE, dir_fd=self.parent)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(f"{self.path!r} is no file any more")
        return file

    def target(self) -> str:
        """Where the link leads."""
        return os.readlink(self.name, dir_fd=self.parent)


def walk(folder: Path, *, skipped: Callable[[str], None] = lambda path: None) -> Iterator[Entry]:
    """Everything below a folder, each folder before what is in it, in the order of names.

    Args:
        folder: Where to begin.
        skipped: Hears what cannot be looked into.
    """
    root = os.open(folder, _FOLDER)
    try:
        yield from _walk(root, "", MAX_DEPTH, skipped)
    finally:
        os.close(root)


def walk_in(folder: int, *, skipped: Callable[[str], None] = lambda path: None) -> Iterator[Entry]:
    """The same below a folder that is open."""
    yield from _walk(folder, "", MAX_DEPTH, skipped)


def _walk(folder: int, prefix: str, depth: int, skipped: Callable[[str], None]) -> Iterator[Entry]:
    for name in sorted(os.listdir(folder)):
        path = f"{prefix}{name}"
        try:
            entry = Entry(path, name, folder, os.stat(name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError:
            continue
        yield entry
        if not entry.is_folder:
            continue
        try:
            below = open_folder(name, folder) if depth else None
        except OSError:
            below = None
        if below is None:
            skipped(path)
            continue
        try:
            yield from _walk(below, f"{path}/", depth - 1, skipped)
        finally:
            os.close(below)


def open_folder(name: str, parent: int) -> int:
    """Open a folder inside another; the descriptor.

    Raises:
        OSError: It is none, or a link to one.
    """
    return os.open(name, _FOLDER, dir_fd=parent)


def open_file(root: Path, path: str) -> int:
    """Open an ordinary file below a root for reading; the descriptor.

    Raises:
        OSError: It is none, or a folder on the way is a link.
    """
    *folders, name = path.split("/")
    here = os.open(root, _FOLDER)
    try:
        for each in folders:
            below = open_folder(each, here)
            os.close(here)
            here = below
        return Entry(path, name, here, os.stat(name, dir_fd=here, follow_symlinks=False)).open()
    finally:
        os.close(here)


def make_folders(root: Path, path: str, *, owner: tuple[int, int] | None = None) -> None:
    """Make a folder, and those that it is in, below a root. Those that exist stay as they are.

    Raises:
        OSError: Something else is in the way, such as a link.
    """
    here = os.open(root, _FOLDER)
    try:
        for name in path.split("/"):
            if made := not _exists(name, here):
                os.mkdir(name, 0o755, dir_fd=here)
            below = open_folder(name, here)
            os.close(here)
            here = below
            if made and owner is not None:
                os.fchown(here, *owner)
    finally:
        os.close(here)


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def fingerprint(folders: Mapping[str, Path]) -> str:
    """Changes when a file changes; made from what the file system says of each, not from what is in it."""
    seen = blake2b(digest_size=16)
    for name, folder in sorted(folders.items()):
        for entry in walk(folder):
            told = entry.stat
            # The time of a change cannot be set by programs, as that of a write can.
            facts = (name, entry.path, told.st_mode, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
            seen.update(repr(facts).encode(errors="surrogateescape"))
    return seen.hexdigest()


def remove(path: Path) -> None:
    """Remove a folder and everything in it, whatever an agent has made of it. Blocks; nothing there is fine.

    Raises:
        OSError: Something could not be removed.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except (OSError, RecursionError):
        # Folders without the right to write, or thousands inside each other, which the programs of the system can do.
        for command in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
            subprocess.run((*command, "--", str(path)), check=False, capture_output=True)
        if path.exists():
            raise OSError(f"{str(path)!r} cannot be removed") from None


def give(folder: Path, owner: tuple[int, int]) -> None:
    """Make a folder somebody's; what is in it stays as it is."""
    here = os.open(folder, _FOLDER)
    try:
        os.fchown(here, *owner)
    finally:
        os.close(here)
