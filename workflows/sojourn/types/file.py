"""Files: what is stored about one beside its content (Managed Agents API §1.11)."""

import mimetypes
import re
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from sojourn.types.error import InvalidRequestError
from sojourn.types.id import FileId, SessionId
from sojourn.types.wire import Omitted, Wire

MAX_FILE_BYTES = 500 * 1024 * 1024
"""Managed Agents API §4.5: 500 MB a file."""

MAX_ATTACHED_BYTES = 20 * 1024 * 1024
"""Of one file in a message: in base64 it still fits into the 32 MB that providers take."""

SHORTEST_LIFE = timedelta(hours=1)
LONGEST_LIFE = timedelta(days=90)

MAX_NAME = 500
"""Characters of a file's name."""

UNNAMED = "unnamed"
ANY_BYTES = "application/octet-stream"

FileOrigin = Literal["upload", "mount", "output"]
"""Uploaded by somebody, copied from an upload into a session, or written by the agent."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}")


class FileMetadata(Wire):
    """A file, without its content."""

    id: FileId
    filename: str
    """Of an output: its path below the folder for outputs."""
    mime_type: str
    size_bytes: int = Field(ge=0)
    sha256: str
    """Of the content, in hex."""
    created_at: datetime
    expires_at: datetime | None = None
    """When the content goes; ``None`` keeps it."""
    downloadable: bool = True
    origin: FileOrigin = "upload"
    session_id: Annotated[SessionId | None, Omitted] = None
    """The session it belongs to and goes with; ``None`` belongs to the whole workspace."""
    user: Annotated[str | None, Omitted] = None
    """Whose session that is. To other users of the workspace the file does not exist."""

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


def checked_name(filename: str | None, *, mime_type: str | None = None) -> str:
    """A name as it is stored: the last part of a path, without what would break a line or a header."""
    last = re.split(r"[/\\]", filename or "")[-1]
    name = "".join(each for each in last if each.isprintable()).strip()[-MAX_NAME:]
    if name.strip(". "):
        return name
    return UNNAMED + (mimetypes.guess_extension(mime_type or "") or "")


def checked_media_type(mime_type: str | None, *, filename: str) -> str:
    """The media type as given, or by the name's ending."""
    plain = (mime_type or "").partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(plain) and plain != ANY_BYTES:
        return plain
    return mimetypes.guess_type(filename)[0] or ANY_BYTES


def check_life(expires_in: timedelta | None, *, param: str = "expires_in_seconds") -> None:
    """Refuse a time to live that is too short or too long.

    Raises:
        InvalidRequestError: It is.
    """
    if expires_in is not None and not SHORTEST_LIFE <= expires_in <= LONGEST_LIFE:
        low, high = (int(each.total_seconds()) for each in (SHORTEST_LIFE, LONGEST_LIFE))
        raise InvalidRequestError(f"{param}: between {low:,} and {high:,} seconds", param=param)
