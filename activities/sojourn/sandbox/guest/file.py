"""The ops ``read``, ``write`` and ``edit``."""

from __future__ import annotations

import base64
import errno
import os
import secrets
import stat
import threading
from contextlib import suppress
from typing import Iterator, Mapping

from .place import Places, failure
from .text import HEAD, decode, encode, media_type
from .wire import Arguments, OpError

TEXT_LIMIT = 256 * 1024
"""Bytes of text in one reading."""
IMAGE_LIMIT = 5 * 1024 * 1024 // 4 * 3
"""Bytes of an image: 5 MiB in base64, which is what models' APIs count."""
PDF_LIMIT = 20 * 1024 * 1024
EDIT_LIMIT = 8 * 1024 * 1024
"""Bytes of a file that can be edited: all of it is in memory."""

_CHUNK = 256 * 1024
_KINDS = (
    (stat.S_ISDIR, "is a directory; list it with glob or ls"),
    (stat.S_ISFIFO, "is a named pipe, not a regular file"),
    (stat.S_ISSOCK, "is a socket, not a regular file"),
)


class Files:
    """Reads and changes files. Called in threads."""

    def __init__(self, places: Places) -> None:
        self._places = places
        # Calls of one step run at the same time, and two edits of one file must not undo one another.
        self._changing = threading.Lock()

    def read(self, arguments: Arguments) -> Mapping[str, object]:
        """A file's ``text``; or, for an image or a PDF, its ``media_type`` and ``data`` in base64."""
        path, lines = arguments.text("file_path"), _range(arguments)
        with _Opened("read", path, self._places.real(path)) as file:
            head = file.take(HEAD)
            media = media_type(head)
            if media is not None:
                if lines is not None:
                    raise OpError("invalid", "read: view_range is not supported for image/PDF files")
                return {"media_type": media, "data": base64.b64encode(_media(file, path, media)).decode()}
            data = file.take(TEXT_LIMIT + 1)
            if len(data) <= TEXT_LIMIT:
                return {"text": _some(path, _text(path, data), lines)}
            if lines is None:
                raise OpError("failed", _too_large(path, max(file.size, len(data))))
            return {"text": _text(path, _lines(file, path, *lines))}

    def write(self, arguments: Arguments) -> Mapping[str, object]:
        """Make a file of a text, or put it in place of all that a file holds."""
        path, content = arguments.text("file_path"), arguments.text("content")
        real = self._places.real(path)
        try:
            data = content.encode()
        except UnicodeEncodeError:
            raise OpError("invalid", "write: the content is not valid text") from None
        with self._changing:
            try:
                os.makedirs(os.path.dirname(real), exist_ok=True)
                created = not os.path.lexists(real)
                _replace(os.path.realpath(real), data)
            except OSError as error:
                raise failure("write", path, error) from None
        return {"size_bytes": len(data), "created": created}

    def edit(self, arguments: Arguments) -> Mapping[str, object]:
        """Replace a text in a file; ``replacements`` says how often."""
        path, every = arguments.text("file_path"), arguments.flag("replace_all")
        old, new = arguments.text("old_string"), arguments.text("new_string")
        if not old:
            raise OpError("invalid", "edit: old_string is empty; use write to make a file or to replace all of it")
        if old == new:
            raise OpError("invalid", "edit: old_string and new_string are the same")
        real = self._places.real(path)
        with self._changing:
            with _Opened("edit", path, real) as file:
                data = file.take(EDIT_LIMIT + 1)
            if len(data) > EDIT_LIMIT:
                raise OpError("failed", f"edit: {path} exceeds the {EDIT_LIMIT}-byte limit; change it with bash")
            changed, count = _edited(path, data, old, new, every)
            try:
                _replace(os.path.realpath(real), changed)
            except OSError as error:
                raise failure("edit", path, error) from None
        return {"replacements": count}


class _Opened:
    """A regular file, opened so that nothing can hang: neither a pipe without a writer nor a device."""

    def __init__(self, op: str, path: str, real: str) -> None:
        self._op = op
        self._path = path
        try:
            self._check(os.stat(real))
            self._file = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise failure(op, path, error) from None
        try:
            self.size = self._check(os.fstat(self._file)).st_size
        except OpError:
            os.close(self._file)
            raise

    def take(self, limit: int) -> bytes:
        """As many bytes from the start as there are, up to the limit. Some files have no end and say no size."""
        data = bytearray()
        for chunk in self.chunks():
            data += chunk[: limit - len(data)]
            if len(data) >= limit:
                break
        return bytes(data)

    def chunks(self) -> Iterator[bytes]:
        offset = 0
        while True:
            try:
                chunk = os.pread(self._file, _CHUNK, offset)
            except OSError as error:
                raise failure(self._op, self._path, error) from None
            if not chunk:
                return
            yield chunk
            offset += len(chunk)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._file)

    def _check(self, found: os.stat_result) -> os.stat_result:
        if stat.S_ISREG(found.st_mode):
            return found
        reason = next((text for test, text in _KINDS if test(found.st_mode)), "is a device, not a regular file")
        raise OpError("failed", f"{self._op}: {self._path}: {reason}")


def _range(arguments: Arguments) -> tuple[int, int] | None:
    given = arguments.numbers("view_range")
    if not given:
        return None
    if len(given) != 2:
        raise OpError("invalid", "read: view_range must be [start_line, end_line]")
    start, end = max(1, given[0]), given[1]
    if 0 < end < start:
        raise OpError("invalid", f"read: view_range ends at line {end}, before it starts at {start}")
    return start, end


def _text(path: str, data: bytes) -> str:
    decoded = decode(data)
    if decoded is None:
        raise OpError(
            "failed", f"read: {path}: is a binary file (only images and PDFs are shown); examine it with bash"
        )
    return decoded[0]


def _some(path: str, text: str, lines: tuple[int, int] | None) -> str:
    if lines is None:
        return text
    every = text.split("\n")
    start, end = lines
    if start > len(every):
        raise _beyond(path, len(every))
    return "\n".join(every[start - 1 : end if end > 0 else None])


def _lines(file: _Opened, path: str, start: int, end: int) -> bytes:
    """The lines of a range of a large file, as far as they fit."""
    kept: list[bytes] = []
    size, number = 0, 1
    for chunk in file.chunks():
        for index, piece in enumerate(chunk.split(b"\n")):
            number += index > 0
            if end > 0 and number > end:
                return b"".join(kept)
            if number < start:
                continue
            kept.append(b"\n" + piece if index > 0 and number > start else piece)
            size += len(kept[-1])
            if size > TEXT_LIMIT:
                raise OpError("failed", _narrow(path, start, end))
    if number < start:
        raise _beyond(path, number)
    return b"".join(kept)


def _beyond(path: str, lines: int) -> OpError:
    return OpError("failed", f"read: {path} has only {lines} lines")


def _narrow(path: str, start: int, end: int) -> str:
    if start == end:
        return f"read: line {start} of {path} alone exceeds the {TEXT_LIMIT}-byte limit; cut a part of it out with bash"
    return f"read: view_range [{start}, {end}] of {path} exceeds the {TEXT_LIMIT}-byte limit; narrow it"


def _too_large(path: str, size: int) -> str:
    return (
        f"read: {path} is {size} bytes, exceeds {TEXT_LIMIT}-byte limit. "
        "Use the view_range parameter to read specific line ranges, e.g. view_range: [1, 500]."
    )


def _media(file: _Opened, path: str, media: str) -> bytes:
    limit = PDF_LIMIT if media == "application/pdf" else IMAGE_LIMIT
    data = file.take(limit + 1)
    if len(data) > limit:
        size = max(file.size, len(data))
        raise OpError("failed", f"read: {path} is {size} bytes, exceeds {limit}-byte limit for its kind")
    return data


def _edited(path: str, data: bytes, old: str, new: str, every: bool) -> tuple[bytes, int]:
    decoded = decode(data)
    if decoded is None:
        raise OpError("failed", f"edit: {path}: is a binary file; change it with bash")
    text, encoding = decoded
    if old not in text and "\r\n" in text:
        # The file ends its lines the way of Windows, which models do not write.
        old, new = _windows(old), _windows(new)
    count = text.count(old)
    if count == 0:
        raise OpError("failed", f"edit: old_string not found in {path}; read the file for its exact text")
    if count > 1 and not every:
        way_out = "add lines around it, or set replace_all"
        raise OpError("failed", f"edit: old_string appears {count} times in {path} (must be unique); {way_out}")
    try:
        return encode(text.replace(old, new), encoding), count
    except UnicodeEncodeError:
        raise OpError("failed", f"edit: {path} is in {encoding}, which cannot express new_string") from None


def _windows(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _replace(real: str, data: bytes) -> None:
    """Put bytes in place of a file at once, so that nobody sees a half of them. Its mode and owner stay."""
    before = _before(real)
    fresh = os.path.join(os.path.dirname(real), ".sojourn-" + secrets.token_hex(8))
    try:
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except PermissionError:
        if before is None:
            raise
        # The folder is not ours to write in, though the file is.
        _overwrite(real, data)
        return
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
            if before is not None:
                # Before the mode, which a change of the owner may take a part of.
                with suppress(PermissionError):
                    os.fchown(opened.fileno(), before.st_uid, before.st_gid)
                os.fchmod(opened.fileno(), stat.S_IMODE(before.st_mode))
        os.replace(fresh, real)
    except OSError as error:
        os.unlink(fresh)
        if before is None or error.errno not in _MOUNTED:
            raise
        _overwrite(real, data)


_MOUNTED = (errno.EBUSY, errno.EXDEV)
"""What a file says that is a mount of its own: it can be written to, not replaced."""


def _before(real: str) -> os.stat_result | None:
    try:
        found = os.stat(real)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if not os.access(real, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return found


def _overwrite(real: str, data: bytes) -> None:
    with os.fdopen(os.open(real, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC), "wb") as file:
        file.write(data)
