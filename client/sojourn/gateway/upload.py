"""Reading an upload piece by piece: `multipart/form-data` with one file, never in memory or on disk as a whole."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from sojourn.gateway.error import GatewayError
from sojourn.types import InvalidRequestError
from sojourn.types.file import check_life

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_OVERHEAD_BYTES = 64 * 1024
"""Of what surrounds the file: boundaries, headers, the other field."""

_MOST_PARTS = 16
_LONGEST_FIELD = 64
_LONGEST_HEADER = 4096
_FILE = "file"
_LIFE = "expires_in_seconds"


@dataclass
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    value: bytearray = field(default_factory=bytearray)


class UploadForm:
    """The form while it is being read: first `begin`, then all of `pieces`; then everything is known.

    Attributes:
        filename: As the client says; ``None`` if it does not.
        media_type: The same.
        expires_in: When the file is to go; known at the end, because the field may come after the file.
    """

    def __init__(self, request: Request, *, limit_bytes: int) -> None:
        """Read the request.

        Raises:
            GatewayError: It is no form, or says at once that it is too large.
        """
        self.filename: str | None = None
        self.media_type: str | None = None
        self.expires_in: timedelta | None = None
        self._chunks: AsyncIterator[bytes] = request.stream()
        self._data: deque[bytes] = deque()
        self._part = _Part()
        self._parts = 0
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._begun = self._ended = False
        self._parser = MultipartParser(_boundary(request), self._callbacks(), max_header_size=_LONGEST_HEADER)
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:19]) > limit_bytes + _OVERHEAD_BYTES:
            raise GatewayError(413, f"file: over the limit of {limit_bytes:,} bytes; split it")

    async def begin(self) -> None:
        """Read up to the file.

        Raises:
            GatewayError: The form is broken, or cut off.
            InvalidRequestError: There is no file in it, or a field is wrong.
        """
        while not self._begun:
            if not await self._feed():
                raise InvalidRequestError("file: field required", param=_FILE)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The file's content. Raises what `begin` does, at the latest before the last piece is known to be the last."""
        while True:
            while self._data:
                yield self._data.popleft()
            if not await self._feed():
                return

    # --- the parser ------------------------------------------------------------------------------------------------

    async def _feed(self) -> bool:
        """Read a little more; whether there was more."""
        try:
            chunk = await anext(self._chunks, None)
        except ClientDisconnect:
            raise _cut_off() from None
        if chunk is None:
            if not self._ended:
                raise _cut_off()
            return False
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise GatewayError(400, f"the form cannot be read: {error}"[:300]) from None
        return True

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._on_part_begin,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_header_begin": self._on_header_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise InvalidRequestError(f"the form has over {_MOST_PARTS} parts; send file and {_LIFE} only")
        self._part = _Part()

    def _on_header_begin(self) -> None:
        self._header = (bytearray(), bytearray())

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        self._part.headers[name.decode("latin-1").lower()] = bytes(value)

    def _on_headers_finished(self) -> None:
        disposition = self._part.headers.get("content-disposition", b"")
        _, options = parse_options_header(disposition)
        self._part.name = _text(options, b"name") or ""
        if self._part.name == _FILE:
            self._begin_file(_text(options, b"filename"))
        elif self._part.name != _LIFE:
            name = self._part.name[:100]
            raise InvalidRequestError(f"{name or 'form'}: unknown field; leave it out", param=name or None)

    def _begin_file(self, filename: str | None) -> None:
        if self._begun:
            raise InvalidRequestError("file: given twice; upload one at a time", param=_FILE)
        self._begun = True
        self.filename = filename
        self.media_type = self._part.headers.get("content-type", b"").decode("latin-1") or None

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == _FILE:
            self._data.append(data[start:end])
        elif len(self._part.value) + end - start <= _LONGEST_FIELD:
            self._part.value.extend(data[start:end])
        else:
            raise _no_life()

    def _on_part_end(self) -> None:
        if self._part.name != _LIFE:
            return
        text = self._part.value.decode("latin-1").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise _no_life()
        self.expires_in = timedelta(seconds=int(text))
        check_life(self.expires_in)

    def _on_end(self) -> None:
        self._ended = True


def _boundary(request: Request) -> bytes:
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type != b"multipart/form-data" or not options.get(b"boundary"):
        shown = media_type.decode("latin-1")[:100]
        raise GatewayError(
            400, f"content-type is {shown!r}; send multipart/form-data with the file in the field 'file'"
        )
    return options[b"boundary"]


def _text(options: Mapping[bytes, bytes], name: bytes) -> str | None:
    found = options.get(name)
    return found.decode("utf-8", "replace") if found is not None else None


def _cut_off() -> GatewayError:
    return GatewayError(400, "the request ended before its form did; send it again")


def _no_life() -> InvalidRequestError:
    return InvalidRequestError(f"{_LIFE}: write a whole number of seconds", param=_LIFE)
