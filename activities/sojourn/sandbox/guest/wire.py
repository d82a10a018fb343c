"""Messages between worker and guest: lines of JSON.

Worker to guest: ``{"id": 7, "op": "bash", …arguments}``. Guest to worker, for each of them: ``{"id": 7, "progress":
"text"}`` any number of times, ``{"id": 7, "more": "text"}`` for pieces of a text that is too long for a line, and in
the end exactly one of ``{"id": 7, "ok": {…}}`` and ``{"id": 7, "error": {"type": "…", "message": "…"}}``. The first
line is the guest's, unasked: ``{"ready": {"python": "3.11.2", "pid": 2}}``.

The pieces are joined to the field ``data`` of what ``ok`` holds.
"""

from __future__ import annotations

import json
from typing import Iterator, Mapping

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes in one line, either way."""

PIECE = 4 * 1024 * 1024
"""Characters in one ``more``."""


class OpError(Exception):
    """The error that answers a call.

    Args:
        kind: ``invalid`` (the call makes no sense), ``failed``, ``killed`` or ``internal``.
        message: For the model, as a sentence without its first capital.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class LineSplitter:
    """Cuts bytes that arrive in pieces into lines."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Each line that is complete now, without its end; ``None`` for one over the limit, which is dropped."""
        head, *tail = data.split(b"\n")
        self._keep(head)
        for piece in tail:
            yield None if self._skipping else bytes(self._rest)
            self._rest.clear()
            self._skipping = False
            self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        self._skipping = self._skipping or len(self._rest) + len(piece) > self._limit
        if self._skipping:
            self._rest.clear()
        else:
            self._rest += piece


def encode(message: Mapping[str, object]) -> bytes:
    """One line. What is no valid text, such as the raw bytes of a file's name, becomes a question mark."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]


class Arguments:
    """The arguments of one call, each checked when it is asked for: `OpError` for a wrong one."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if value is None:
            raise OpError("invalid", f"{name} is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise OpError("invalid", f"{name} is not a text")

    def texts(self, name: str) -> list[str]:
        values = self._values.get(name)
        if not isinstance(values, list):
            raise OpError("invalid", f"{name} is not a list")
        found = [value for value in values if isinstance(value, str)]
        if len(found) < len(values):
            raise OpError("invalid", f"{name} is not a list of texts")
        return found

    def numbers(self, name: str) -> list[int] | None:
        values = self._values.get(name)
        if values is None:
            return None
        found = [value for value in values if _is_whole(value)] if isinstance(values, list) else []
        if not isinstance(values, list) or len(found) < len(values):
            raise OpError("invalid", f"{name} is not a list of whole numbers")
        return found

    def seconds(self, name: str, *, default: float, most: float) -> float:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
            raise OpError("invalid", f"{name} is not a number of seconds up to {most:g}")
        return value

    def whole(self, name: str) -> int:
        value = self._values.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise OpError("invalid", f"{name} is not a whole number")
        return value

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise OpError("invalid", f"{name} is not true or false")

    def variables(self, name: str) -> Mapping[str, str]:
        values = self._values.get(name)
        if values is None:
            return {}
        found = (
            {key: value for key, value in values.items() if isinstance(value, str)} if isinstance(values, dict) else {}
        )
        if not isinstance(values, dict) or len(found) < len(values):
            raise OpError("invalid", f"{name} is not a table of texts")
        return found


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
