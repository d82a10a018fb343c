"""What sessions and messages refer to in the store: checked where it is sent, because later nobody could refuse it."""

from collections.abc import Iterator, Sequence

from sojourn.client.file import required
from sojourn.types.content import DocumentBlock, FileSource, ImageBlock, fits
from sojourn.types.environment import SandboxConfig, SelfHostedConfig
from sojourn.types.error import InvalidRequestError
from sojourn.types.event import UserCustomToolResult, UserEvent, UserMessage, UserToolResult
from sojourn.types.file import MAX_ATTACHED_BYTES
from sojourn.types.file_error import FileExpiredError, FileMissingError
from sojourn.types.file_store import FileStore
from sojourn.types.resource import Resource
from sojourn.types.session import Owner


async def check_attached(
    files: FileStore | None, events: Sequence[UserEvent], owner: Owner, *, path: str = "events"
) -> None:
    """Refuse blocks whose file a model could never be shown.

    Args:
        files: Where files are; ``None`` without an object store.
        events: What is to be sent.
        owner: Who sends it.
        path: What errors call the list.

    Raises:
        FileStoreMissingError: A block has a file, and there is no object store.
        InvalidRequestError: A file is unknown, expired, too large or of another kind; names the path.
    """
    seen: set[tuple[str, str]] = set()
    for where, block, source in _attached(events, path):
        if (block.type, source.file_id) not in seen:
            await _check(required(files), block, source, owner, f"{where}.source.file_id")
            seen.add((block.type, source.file_id))


async def _check(
    files: FileStore, block: ImageBlock | DocumentBlock, source: FileSource, owner: Owner, param: str
) -> None:
    try:
        meta = await files.find(source.file_id, owner=owner)
    except FileExpiredError as error:
        raise InvalidRequestError(f"{param}: {error}", param=param, code=error.code) from None
    except FileMissingError as error:
        raise InvalidRequestError(f"{param}: {error}", param=param) from None
    if not fits(block, meta.mime_type):
        text = f"{param}: {meta.mime_type!r} cannot be shown as {block.type}; mount the file instead"
        raise InvalidRequestError(text, param=param)
    if meta.size_bytes > MAX_ATTACHED_BYTES:
        text = f"{param}: over {MAX_ATTACHED_BYTES:,} bytes, which no model is shown; mount the file instead"
        raise InvalidRequestError(text, param=param)


def _attached(events: Sequence[UserEvent], path: str) -> Iterator[tuple[str, ImageBlock | DocumentBlock, FileSource]]:
    for place, event in enumerate(events):
        if isinstance(event, UserMessage | UserCustomToolResult | UserToolResult):
            for number, block in enumerate(event.content):
                if isinstance(block, ImageBlock | DocumentBlock) and isinstance(block.source, FileSource):
                    yield f"{path}.{place}.content.{number}", block, block.source


def check_hosted(sandbox: SandboxConfig | None, resources: Sequence[Resource]) -> None:
    """Refuse what a sandbox of the user's own cannot mount.

    Raises:
        InvalidRequestError: There are resources, and the sandbox is self-hosted.
    """
    if resources and isinstance(sandbox, SelfHostedConfig):
        text = "resources: a self-hosted environment mounts no files and no repositories; leave them out"
        raise InvalidRequestError(text, param="resources")
