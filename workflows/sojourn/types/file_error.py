"""What can be wrong with files."""

from datetime import datetime

from sojourn.types.error import InvalidRequestError, NotFoundError, ServerNotReadyError


class FileMissingError(NotFoundError):
    """No file with this id for this owner."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"file {file_id!r} not found; `sojourn files list` shows what there is", file_id=file_id)
        self.file_id = file_id


class FileExpiredError(NotFoundError):
    """The file's time is over and its content is gone."""

    def __init__(self, file_id: str, *, expired_at: datetime) -> None:
        super().__init__(
            f"file {file_id!r} expired at {expired_at:%Y-%m-%d %H:%M} UTC; upload it again",
            file_id=file_id,
            code="file_expired",
        )
        self.file_id = file_id
        self.code = "file_expired"


class FileNotDownloadableError(InvalidRequestError):
    """The file can be used, and its content is not given out."""

    def __init__(self, file_id: str) -> None:
        super().__init__(
            f"file {file_id!r} was stored as not downloadable; mount it into a session instead",
            code="file_not_downloadable",
            file_id=file_id,
        )
        self.file_id = file_id


class FileTooLargeError(InvalidRequestError):
    """The file is over the limit of one file."""

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(
            f"file: over the limit of {limit_bytes:,} bytes; split it", param="file", limit_bytes=limit_bytes
        )
        self.limit_bytes = limit_bytes


class FileStoreMissingError(ServerNotReadyError):
    """Files are kept in an object store, and this process has none."""

    def __init__(self) -> None:
        super().__init__(
            "files need an object store and this process has none; "
            "set SOJOURN_STORE_URL, or name it once for all with `sojourn setup --store URL`"
        )


class ResourceMissingError(NotFoundError):
    """Nothing with this id is mounted into the session."""

    def __init__(self, resource_id: str) -> None:
        super().__init__(
            f"resource {resource_id!r} not found in the session; list its resources to see what there is",
            resource_id=resource_id,
        )
        self.resource_id = resource_id
