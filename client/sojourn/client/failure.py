"""Temporal's errors as ours: the one table.

An application error carries the name of our class as its type (`sojourn.types.error`). Everything else is a gRPC status
that means something for the thing the call was about.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from sojourn.types.error import (
    ConflictError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    ServerNotReadyError,
    ServerUnavailableError,
    SojournError,
    rebuild,
)

STATUS_ERRORS: dict[RPCStatusCode, type[SojournError]] = {
    RPCStatusCode.ABORTED: ConflictError,
    RPCStatusCode.ALREADY_EXISTS: ConflictError,
    RPCStatusCode.CANCELLED: InternalError,
    RPCStatusCode.DATA_LOSS: InternalError,
    RPCStatusCode.DEADLINE_EXCEEDED: ServerUnavailableError,
    RPCStatusCode.FAILED_PRECONDITION: ConflictError,
    RPCStatusCode.INTERNAL: InternalError,
    RPCStatusCode.INVALID_ARGUMENT: InvalidRequestError,
    RPCStatusCode.NOT_FOUND: NotFoundError,
    RPCStatusCode.OUT_OF_RANGE: InvalidRequestError,
    RPCStatusCode.PERMISSION_DENIED: ServerNotReadyError,
    RPCStatusCode.RESOURCE_EXHAUSTED: InternalError,
    RPCStatusCode.UNAUTHENTICATED: ServerNotReadyError,
    RPCStatusCode.UNAVAILABLE: ServerUnavailableError,
    RPCStatusCode.UNIMPLEMENTED: ServerNotReadyError,
    RPCStatusCode.UNKNOWN: InternalError,
}
"""What each gRPC status becomes when the call site knows nothing better. ``OK`` is not an error."""


@contextmanager
def translated(
    address: str, *, missing: SojournError | None = None, taken: SojournError | None = None
) -> Iterator[None]:
    """Raise our errors instead of Temporal's.

    Args:
        address: The server's address, for errors about reaching it.
        missing: What to raise when the thing the call is about does not exist.
        taken: What to raise when it exists already.
    """
    try:
        yield
    except WorkflowAlreadyStartedError as error:
        raise taken or ConflictError(str(error)) from None
    except WorkflowUpdateFailedError as error:
        raise from_cause(error.cause) from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and missing is not None and not _lacks_namespace(error):
            raise missing from None
        raise from_status(error, address) from None


def from_cause(cause: BaseException | None) -> SojournError:
    """Our error from what a workflow's handler raised."""
    if isinstance(cause, ApplicationError) and cause.type:
        data = cause.details[0] if cause.details and isinstance(cause.details[0], dict) else {}
        return rebuild(cause.type, cause.message, data)
    return InternalError(str(cause))


def from_status(error: RPCError, address: str) -> SojournError:
    """Our error from a gRPC status."""
    kind = STATUS_ERRORS[error.status]
    message = " ".join(error.message.split())
    if kind is ServerUnavailableError:
        return ServerUnavailableError(address)
    if _lacks_namespace(error):
        return ServerNotReadyError(f"{message.rstrip('.')}; create it, or name another in TEMPORAL_NAMESPACE")
    if "no mapping defined for search attribute" in message or ("is not defined" in message and "attribute" in message):
        return ServerNotReadyError(f"{message}; run `sojourn setup` once for this namespace")
    return kind(message)


def _lacks_namespace(error: RPCError) -> bool:
    """Whether nothing was found because the namespace itself does not exist."""
    return error.status is RPCStatusCode.NOT_FOUND and error.message.lower().startswith("namespace ")
