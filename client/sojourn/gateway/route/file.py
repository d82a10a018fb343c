"""`/v1/files` (Managed Agents API §1.11)."""

from collections.abc import AsyncGenerator
from urllib.parse import quote

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from sojourn.client.file_registry import MAX_IDS
from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.upload import UploadForm
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.file import DeletedFile, File, FilePage, UploadFile, wire_file
from sojourn.types import InvalidRequestError
from sojourn.types.file import FileMetadata
from sojourn.types.wire import Wire

_CHOICES = ("page", "after_id", "before_id")


class FilesQuery(Wire):
    """Which files."""

    scope_id: str | None = None
    """Only those of this session."""
    ids: tuple[str, ...] = ()
    limit: int = Field(default=20, ge=1, le=1000)
    page: str | None = None
    after_id: str | None = None
    """How SDKs before 1.5 go on."""
    before_id: str | None = None


async def upload(call: Call[None, None]) -> File:
    form = UploadForm(call.request, limit_bytes=call.gateway.options.max_file_bytes)
    await form.begin()
    made = await call.runtime.upload_file(
        form.pieces(),
        filename=form.filename or "",
        mime_type=form.media_type,
        expires_in=lambda: form.expires_in,
        limit_bytes=call.gateway.options.max_file_bytes,
        owner=call.owner,
    )
    return wire_file(made)


async def list_files(call: Call[None, FilesQuery]) -> FilePage:
    query = call.query
    if query.ids:
        return await _some(call)
    given = [name for name in _CHOICES if getattr(query, name)]
    if len(given) > 1:
        raise InvalidRequestError(f"{given[1]}: not together with {given[0]}", param=given[1])
    found = await call.runtime.file_page(
        session=query.scope_id or None,
        limit=query.limit,
        after=_after(query.page) if query.page else query.after_id,
        before=query.before_id or None,
        owner=call.owner,
    )
    # Before an id one reads backwards, and what comes next is not what `next_page` means.
    following = found.has_more and not query.before_id
    return _page(found.data, has_more=found.has_more, following=following)


async def _some(call: Call[None, FilesQuery]) -> FilePage:
    given = call.query.model_fields_set & {"page", "limit", "after_id", "before_id"}
    if given:
        name = min(given)
        raise InvalidRequestError(f"{name}: not together with ids", param=name)
    if len(set(call.query.ids)) > MAX_IDS:
        raise InvalidRequestError(f"ids: up to {MAX_IDS}", param="ids")
    found = (await call.runtime.list_files(ids=call.query.ids, owner=call.owner)).data
    wanted = call.query.scope_id
    data = tuple(meta for meta in found if wanted is None or meta.session_id == wanted)
    return _page(data, has_more=False, following=False)


def _page(data: tuple[FileMetadata, ...], *, has_more: bool, following: bool) -> FilePage:
    return FilePage(
        data=tuple(map(wire_file, data)),
        next_page=cursor("files", after=data[-1].id) if following else None,
        has_more=has_more,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


def _after(page: str) -> str:
    after = read_cursor("files", page).get("after")
    if not isinstance(after, str):
        raise bad_cursor()
    return after


async def retrieve(call: Call[None, None]) -> File:
    return wire_file(await call.runtime.get_file(call.path["file_id"], owner=call.owner))


async def download(call: Call[None, None]) -> Response:
    meta = await call.runtime.get_file(call.path["file_id"], owner=call.owner)
    chunks = call.runtime.open_file(meta, owner=call.owner)
    # What can be refused is refused before the answer has begun.
    first = await anext(chunks, b"")
    headers = {
        "content-length": str(meta.size_bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(meta.filename.rpartition('/')[2], safe='')}",
        # Somebody's page must not run as a part of the console.
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(_joined(first, chunks), headers=headers, media_type=meta.mime_type)


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for chunk in rest:
        yield chunk


async def delete(call: Call[None, None]) -> DeletedFile:
    id = call.path["file_id"]
    await call.runtime.delete_file(id, owner=call.owner)
    return DeletedFile(id=id)


_ALL = "/v1/files"
_ONE = "/v1/files/{file_id}"

ENDPOINTS = (
    Endpoint("POST", _ALL, "files.upload", upload, "write", "Upload a file", reply=File, form=UploadFile),
    Endpoint("GET", _ALL, "files.list", list_files, "read", "List files", None, FilesQuery, FilePage),
    Endpoint("GET", _ONE, "files.retrieve", retrieve, "read", "Get a file's metadata", reply=File),
    Endpoint("GET", f"{_ONE}/content", "files.download", download, "read", "Download a file", binary=True),
    Endpoint("DELETE", _ONE, "files.delete", delete, "control", "Delete a file", reply=DeletedFile),
)
