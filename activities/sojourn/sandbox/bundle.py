"""Folders of an agent as one compressed file, and back."""

import gzip
import os
import stat
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import BinaryIO

from sojourn.sandbox.tree import Entry, open_folder, walk

_LEVEL = 1
"""The fastest: the store is waited for by the next turn, and its space is cheap."""
_CHUNK = 1024 * 1024
_MODES = 0o777
"""What is kept of a file's mode. Nothing is to run as somebody else."""


class BundleTooLargeError(Exception):
    """There is more in the folders than may be stored."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the files are larger than {limit_bytes:,} bytes together")
        self.limit_bytes = limit_bytes


class BundleError(Exception):
    """What was stored is damaged, or not of our making."""


class StoppedError(Exception):
    """Somebody asked to stop."""


def pack(folders: Mapping[str, Path], target: BinaryIO, *, limit_bytes: int, stop: Event) -> tuple[str, list[str]]:
    """Write folders, files and links; no sockets and devices. Blocks.

    A file that changes meanwhile is stored with the length that it had when it was come to.

    Args:
        folders: By the name that each gets in the bundle.
        target: Where to write.
        limit_bytes: Of all files together.
        stop: Ends it early.

    Returns:
        The SHA-256 of what was written, in hex; and what could not be read.

    Raises:
        BundleTooLargeError: There is more.
        StoppedError: It was told to stop.
    """
    skipped: list[str] = []
    hashing = _Hashing(target)
    with (
        gzip.GzipFile(fileobj=hashing, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as archive,
    ):
        packer = _Packer(archive, limit_bytes, stop, skipped)
        for name, folder in folders.items():
            for entry in walk(folder, skipped=lambda path, name=name: skipped.append(f"{name}/{path}")):  # type: ignore[misc]
                packer.add(f"{name}/{entry.path}", entry)
    return hashing.digest.hexdigest(), skipped


class _Hashing:
    """A file that is only written to, with the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


class _Packer:
    def __init__(self, archive: tarfile.TarFile, limit_bytes: int, stop: Event, skipped: list[str]) -> None:
        self._archive = archive
        self._limit_bytes = limit_bytes
        self._left = limit_bytes
        self._stop = stop
        self._skipped = skipped
        self._linked: dict[tuple[int, int], str] = {}

    def add(self, path: str, entry: Entry) -> None:
        if self._stop.is_set():
            raise StoppedError
        info = tarfile.TarInfo(path)
        info.mode, info.mtime = entry.stat.st_mode & _MODES, entry.stat.st_mtime
        try:
            if entry.is_folder:
                info.type = tarfile.DIRTYPE
                self._archive.addfile(info)
            elif entry.is_link:
                info.type, info.linkname = tarfile.SYMTYPE, entry.target()
                self._archive.addfile(info)
            elif entry.is_file:
                self._file(info, entry)
        except (PermissionError, FileNotFoundError):
            self._skipped.append(path)

    def _file(self, info: tarfile.TarInfo, entry: Entry) -> None:
        key = (entry.stat.st_dev, entry.stat.st_ino)
        if entry.stat.st_nlink > 1 and (first := self._linked.get(key)):
            info.type, info.linkname = tarfile.LNKTYPE, first
            self._archive.addfile(info)
            return
        try:
            file = open(entry.open(), "rb")  # noqa: SIM115 (closed below)
        except OSError:
            self._skipped.append(info.name)
            return
        with file:
            info.size = os.fstat(file.fileno()).st_size
            self._left -= info.size
            if self._left < 0:
                raise BundleTooLargeError(self._limit_bytes)
            self._archive.addfile(info, _Exactly(file, self._stop))
        if entry.stat.st_nlink > 1:
            self._linked[key] = info.name


class _Exactly:
    """A file that never ends: where the real one has become shorter, zeros follow."""

    def __init__(self, file: BinaryIO, stop: Event) -> None:
        self._file = file
        self._stop = stop

    def read(self, size: int = 0, /) -> bytes:
        if self._stop.is_set():
            raise StoppedError
        return self._file.read(size).ljust(size, b"\0")


def unpack(source: BinaryIO, folders: Mapping[str, Path], *, owner: tuple[int, int] | None, stop: Event) -> None:
    """Write what `pack` has packed into empty folders. Blocks.

    Links are made as they were and never followed, so nothing is written outside the folders.

    Args:
        source: The bundle.
        folders: Those of `pack`.
        owner: To whom everything is to belong; ``None`` is whoever runs this.
        stop: Ends it early.

    Raises:
        BundleError: It is none.
        StoppedError: It was told to stop.
    """
    try:
        with (
            gzip.GzipFile(fileobj=source, mode="rb") as packed,
            tarfile.open(fileobj=packed, mode="r|", bufsize=_CHUNK) as archive,
        ):
            _Unpacker(folders, owner, stop).run(archive)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
        raise BundleError(str(error) or type(error).__name__) from None


class _Unpacker:
    def __init__(self, folders: Mapping[str, Path], owner: tuple[int, int] | None, stop: Event) -> None:
        self._folders = folders
        self._owner = owner
        self._stop = stop
        self._modes: list[tuple[str, int, float]] = []

    def run(self, archive: tarfile.TarFile) -> None:
        for member in archive:
            if self._stop.is_set():
                raise StoppedError
            parent, name = self._place(member.name)
            try:
                self._write(archive, member, name, parent)
            finally:
                os.close(parent)
        # Last and from the bottom: nothing can be written into a folder that may not be written to.
        for path, mode, mtime in reversed(self._modes):
            parent, name = self._place(path)
            try:
                folder = open_folder(name, parent)
                os.fchmod(folder, mode)
                os.utime(folder, (mtime, mtime))
                os.close(folder)
            finally:
                os.close(parent)

    def _place(self, path: str) -> tuple[int, str]:
        """The folder that something goes into, as a descriptor to be closed, and its name there."""
        top, *parts = path.split("/")
        if top not in self._folders or not parts or any(part in ("", ".", "..") for part in parts):
            raise BundleError(f"{path!r} is no path of a workspace")
        here = os.open(self._folders[top], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        for part in parts[:-1]:
            try:
                below = open_folder(part, here)
            except OSError as error:
                raise BundleError(f"{path!r} lies in no folder: {error.strerror}") from None
            finally:
                os.close(here)
            here = below
        return here, parts[-1]

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=parent)
            self._modes.append((member.name, member.mode & _MODES, member.mtime))
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._link(member.linkname, name, parent)
            return
        elif member.isfile():
            self._file(archive, member, name, parent)
        else:
            raise BundleError(f"{member.name!r} is neither file, folder nor link")
        if self._owner is not None:
            os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)

    def _link(self, target: str, name: str, parent: int) -> None:
        there, file = self._place(target)
        try:
            if not stat.S_ISREG(os.stat(file, dir_fd=there, follow_symlinks=False).st_mode):
                raise BundleError(f"{target!r} is linked to and no file")
            os.link(file, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(there)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
        content = archive.extractfile(member)
        assert content is not None
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, new, 0o600, dir_fd=parent), "wb") as file:
            while chunk := content.read(_CHUNK):
                if self._stop.is_set():
                    raise StoppedError
                file.write(chunk)
            os.fchmod(file.fileno(), member.mode & _MODES)
            file.flush()
            os.utime(file.fileno(), (member.mtime, member.mtime))
