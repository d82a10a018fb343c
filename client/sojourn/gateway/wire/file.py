"""Files on the wire (Managed Agents API §1.11)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from sojourn.types.file import LONGEST_LIFE, SHORTEST_LIFE, FileMetadata
from sojourn.types.wire import Wire


class UploadFile(Wire):
    """An upload, as `multipart/form-data`. For the document alone: it is read piece by piece."""

    file: Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]
    expires_in_seconds: (
        Annotated[int, Field(ge=SHORTEST_LIFE.total_seconds(), le=LONGEST_LIFE.total_seconds())] | None
    ) = None


class FileScope(Wire):
    """What a file belongs to and goes with."""

    type: Literal["session"] = "session"
    id: str


class File(Wire):
    """A file."""

    id: str
    type: Literal["file"] = "file"
    filename: str
    mime_type: str
    size_bytes: int
    created_at: datetime
    downloadable: bool
    expires_at: datetime | None
    scope: FileScope | None
    """``None`` where it belongs to the whole workspace."""
    sojourn_sha256: str
    """Of the content, in hex. An extension."""


class FilePage(Wire):
    """One page of files, newest first; with the cursors of newer SDKs and the ids of older ones."""

    data: tuple[File, ...]
    next_page: str | None
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFile(Wire):
    """What is left of a file."""

    id: str
    type: Literal["file_deleted"] = "file_deleted"


def wire_file(meta: FileMetadata) -> File:
    """A file as replies show it."""
    return File(
        id=meta.id,
        filename=meta.filename,
        mime_type=meta.mime_type,
        size_bytes=meta.size_bytes,
        created_at=meta.created_at,
        downloadable=meta.downloadable,
        expires_at=meta.expires_at,
        scope=FileScope(id=meta.session_id) if meta.session_id is not None else None,
        sojourn_sha256=meta.sha256,
    )
