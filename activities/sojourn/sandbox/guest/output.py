"""What a command writes: the end of it in memory, all of it in a file once it is long."""

from __future__ import annotations

import codecs
from contextlib import suppress
from typing import BinaryIO, Callable, Mapping, Tuple

LIMIT = 100_000
"""Characters that are given as they are; longer output goes to a file."""

PROGRESS = 4096
"""Bytes of the end that people who watch get to see."""

_FILE_LIMIT = 64 * 1024 * 1024
"""Bytes that are kept in a file: nobody reads more, and it must not fill the disk."""

Opener = Callable[[], Tuple[BinaryIO, str]]


class Output:
    """Collects what a command writes.

    Args:
        opener: Makes the file for long output, and says what the agent calls it. OSError if there can be none.
        limit: Characters that are given as they are.
    """

    def __init__(self, opener: Opener, *, limit: int = LIMIT) -> None:
        self.size_bytes = 0
        self._limit = limit
        # So many characters, each as long as can be.
        self._memory_bytes = 4 * limit
        self._opener = opener
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0
        self._tail = bytearray()
        self._file: BinaryIO | None = None
        self._path: str | None = None
        self._long = False

    def feed(self, data: bytes) -> None:
        self.size_bytes += len(data)
        self._tail += data
        if not self._long:
            self._characters += len(self._decoder.decode(data))
            if self._characters > self._limit:
                self._spill()
        elif self._file is not None:
            self._save(data)
        if self._long and len(self._tail) > 2 * self._memory_bytes:
            del self._tail[: -self._memory_bytes]

    def tail(self) -> str:
        """The end, for people who watch."""
        return self._tail[-PROGRESS:].decode("utf-8", "replace").lstrip("\ufffd")

    def finish(self) -> Mapping[str, object]:
        """What there was. ``text`` is all of it or, if ``truncated``, its end; ``path`` is the file with all of it."""
        if self._file is not None:
            self._save(b"", last=True)
        text = self._tail.decode("utf-8", "replace")
        return {
            "text": text[-self._limit :] if self._long else text,
            "truncated": self._long,
            "size_bytes": self.size_bytes,
            "path": self._path,
            "path_truncated": self._path is not None and self.size_bytes > _FILE_LIMIT,
        }

    def _spill(self) -> None:
        self._long = True
        try:
            self._file, self._path = self._opener()
        except OSError:
            return  # no place for a file: the end is all there is
        self._save(bytes(self._tail))

    def _save(self, data: bytes, *, last: bool = False) -> None:
        file = self._file
        if file is None:
            return
        try:
            file.write(data[: max(0, _FILE_LIMIT - file.tell())])
            if last:
                self._file = None
                file.close()
        except OSError:
            # The disk is full, or the file as large as it may be: half of the output under its path would mislead.
            self._file = self._path = None
            with suppress(OSError):
                file.close()
