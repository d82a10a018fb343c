"""A place among an agent's files: what is put there or removed from there never goes through a link of the agent's."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path

from sojourn.sandbox import tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1024 * 1024


class TakenError(Exception):
    """Something is there already."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A name in a folder. Its methods block, and raise `OSError` where the system refuses."""

    parent: int
    """Descriptor of the folder."""
    name: str

    @property
    def is_taken(self) -> bool:
        """Whether something is there, be it a link that leads nowhere."""
        try:
            os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def put(self, source: Path) -> None:
        """Move a file or a folder here, from the same disk.

        Raises:
            TakenError: Something is there.
        """
        if self.is_taken:
            raise TakenError
        os.rename(source, self.name, dst_dir_fd=self.parent)

    def digest(self) -> str:
        """What changes when the file, or something in the folder, changes; empty if neither is there."""
        try:
            told = os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
            if stat.S_ISREG(told.st_mode):
                return self._file_digest()
            return self._folder_digest() if stat.S_ISDIR(told.st_mode) else ""
        except OSError:
            return ""

    def remove(self) -> None:
        """Remove what is here."""
        told = os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        if stat.S_ISDIR(told.st_mode):
            shutil.rmtree(self.name, dir_fd=self.parent)
        else:
            os.unlink(self.name, dir_fd=self.parent)

    def _file_digest(self) -> str:
        seen = sha256()
        with os.fdopen(os.open(self.name, _FILE, dir_fd=self.parent), "rb") as file:
            while chunk := file.read(_CHUNK):
                seen.update(chunk)
        return seen.hexdigest()

    def _folder_digest(self) -> str:
        seen = blake2b(digest_size=16)
        folder = os.open(self.name, _FOLDER, dir_fd=self.parent)
        try:
            for entry in tree.walk_in(folder):
                told = entry.stat
                # Folders say when something in them came or went, which their files say themselves.
                times = () if entry.is_folder else (told.st_size, told.st_mtime_ns, told.st_ctime_ns)
                seen.update(repr((entry.path, told.st_mode, *times)).encode(errors="surrogateescape"))
        finally:
            os.close(folder)
        return seen.hexdigest()


@contextmanager
def spot(root: Path, path: str, *, owner: tuple[int, int] | None = None, make: bool = True) -> Iterator[Spot]:
    """The place at a path below a root. Blocks.

    Args:
        root: A folder that the agent cannot replace.
        path: From there, with slashes; plain names only.
        owner: To whom folders belong that are made on the way.
        make: Whether they are made.

    Raises:
        OSError: A folder on the way is not there, or is something else, such as a link.
    """
    *folders, name = path.split("/")
    if make and folders:
        tree.make_folders(root, "/".join(folders), owner=owner)
    here = os.open(root, _FOLDER)
    try:
        for each in folders:
            below = tree.open_folder(each, here)
            os.close(here)
            here = below
        yield Spot(here, name)
    finally:
        os.close(here)


def give_all(path: Path, owner: tuple[int, int]) -> None:
    """Make a file, or a folder with all that is in it, somebody's. Nobody else may write to it meanwhile. Blocks."""
    os.chown(path, *owner, follow_symlinks=False)
    if path.is_dir() and not path.is_symlink():
        for entry in tree.walk(path):
            os.chown(entry.name, *owner, dir_fd=entry.parent, follow_symlinks=False)
