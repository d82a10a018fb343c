"""Files that messages and tool results refer to, brought in for one model request: the log has their ids alone."""

import base64
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from sojourn.activities.conversation import Message, ToolResults, UserTurn
from sojourn.types.content import (
    Base64Source,
    ContentBlock,
    DocumentBlock,
    FileSource,
    ImageBlock,
    PlainTextSource,
    TextBlock,
    fits,
    is_text,
)
from sojourn.types.error import NotFoundError
from sojourn.types.file import MAX_ATTACHED_BYTES, FileMetadata
from sojourn.types.file_store import FileStore
from sojourn.types.session import Owner
from sojourn.types.store import Store

B = TypeVar("B", bound=ContentBlock)

REQUEST_BYTES = 22 * 1024 * 1024
"""Of all files of a request together: in base64 they still fit into the 32 MB that providers take."""

TEXT_BYTES = 1024 * 1024
"""Of a text; the rest of a longer one is left out."""

_REMEMBERED_BYTES = 64 * 1024 * 1024


class Attachments:
    """Reads files for model requests. Remembers the latest, because each step of a turn needs them again.

    Args:
        store: Where files are; ``None`` without an object store.
    """

    def __init__(self, store: Store | None) -> None:
        self._files = FileStore(store, clock=lambda: datetime.now(UTC)) if store is not None else None
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._known_bytes = 0

    async def shown(self, messages: Sequence[Message], owner: Owner) -> tuple[Message, ...]:
        """The messages with the files in line, as many of the latest as a request holds; texts stand for the others.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        room = _Room()
        found = [await self._message(message, owner, room) for message in reversed(messages)]
        return tuple(reversed(found))

    async def _message(self, message: Message, owner: Owner, room: "_Room") -> Message:
        if isinstance(message, UserTurn) and any(map(_has_file, message.content)):
            return replace(message, content=tuple([await self._block(each, owner, room) for each in message.content]))
        if isinstance(message, ToolResults) and any(_has_file(b) for each in message.results for b in each.content):
            results = [
                replace(each, content=tuple([await self._block(block, owner, room) for block in each.content]))
                for each in message.results
            ]
            return ToolResults(tuple(results))
        return message

    async def _block(self, block: B, owner: Owner, room: "_Room") -> "B | TextBlock | DocumentBlock | ImageBlock":
        if not isinstance(block, ImageBlock | DocumentBlock) or not isinstance(block.source, FileSource):
            return block
        file_id = block.source.file_id
        try:
            meta = await self._find(file_id, owner)
            # Clients check it too; the log is whatever somebody has sent.
            fitting = fits(block, meta.mime_type) and meta.size_bytes <= MAX_ATTACHED_BYTES
            if not fitting or not room.take(meta.size_bytes):
                return _missing(block, f"the file {meta.filename!r} is left out: too large, or of no kind to show")
            return _inline(block, meta, await self._content(meta, owner))
        except NotFoundError:
            return _missing(block, f"the uploaded file {file_id!r} is no longer available")

    async def _find(self, file_id: str, owner: Owner) -> FileMetadata:
        """Asked each time: it may have expired, and is the owner's to delete."""
        if self._files is None:
            raise NotFoundError(f"file {file_id!r} cannot be read: there is no object store")
        return await self._files.find(file_id, owner=owner)

    async def _content(self, meta: FileMetadata, owner: Owner) -> bytes:
        key = f"{owner.workspace}/{meta.id}"
        if (known := self._known.get(key)) is None:
            known = await self._read(meta, owner)
            self._remember(key, known)
        self._known.move_to_end(key)
        return known

    async def _read(self, meta: FileMetadata, owner: Owner) -> bytes:
        assert self._files is not None
        return b"".join([chunk async for chunk in self._files.read(meta, owner=owner)])

    def _remember(self, key: str, content: bytes) -> None:
        # Two requests may have read it at the same time.
        self._known_bytes += len(content) - len(self._known.get(key, b""))
        self._known[key] = content
        while self._known_bytes > _REMEMBERED_BYTES and len(self._known) > 1:
            _, dropped = self._known.popitem(last=False)
            self._known_bytes -= len(dropped)


class _Room:
    """What is left of a request's size."""

    def __init__(self) -> None:
        self._left = REQUEST_BYTES

    def take(self, size_bytes: int) -> bool:
        """Take a part; false if there is not so much."""
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True


def _has_file(block: ContentBlock) -> bool:
    return isinstance(block, ImageBlock | DocumentBlock) and isinstance(block.source, FileSource)


def _missing(block: ImageBlock | DocumentBlock, text: str) -> TextBlock:
    title = f" ({block.title})" if isinstance(block, DocumentBlock) and block.title else ""
    return TextBlock(text=f"[{text}{title}]")


def _inline(block: ImageBlock | DocumentBlock, meta: FileMetadata, content: bytes) -> ImageBlock | DocumentBlock:
    if isinstance(block, ImageBlock):
        return ImageBlock(source=_base64(meta, content))
    title = block.title or meta.filename
    if not is_text(meta.mime_type):
        return block.model_copy(update={"source": _base64(meta, content), "title": title})
    text = content[:TEXT_BYTES].decode("utf-8", "replace")
    if len(content) > TEXT_BYTES:
        text += f"\n[The file goes on; {len(content) - TEXT_BYTES:,} of its {len(content):,} bytes are left out.]"
    return block.model_copy(update={"source": PlainTextSource(data=text), "title": title})


def _base64(meta: FileMetadata, content: bytes) -> Base64Source:
    return Base64Source(media_type=meta.mime_type, data=base64.b64encode(content).decode())
