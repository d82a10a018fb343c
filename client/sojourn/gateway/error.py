"""Errors as the contract wants them: status, JSON body, headers (Managed Agents API §4.3, §4.4)."""

import json
from collections.abc import Mapping

from starlette.responses import Response

from sojourn.types import (
    CheckpointError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    ServerNotReadyError,
    SessionBusyError,
    SojournError,
)
from sojourn.types.error import (
    AgentArchivedError,
    DeploymentArchivedError,
    EnvironmentArchivedError,
    HeartbeatRefusedError,
    SessionClosedError,
    SessionStateError,
    ToolCallNotFoundError,
    ToolCallSettledError,
)
from sojourn.types.file_error import FileTooLargeError
from sojourn.types.vault_error import CredentialArchivedError, SecretError, VaultArchivedError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    412: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "api_error",
}

# What the official server answers with 400 though the request would be right at another time (§2.1, §3.4): the SDK
# repeats a 409 twice, and none of these gets better by that.
_WRONG_NOW = (
    AgentArchivedError,
    CredentialArchivedError,
    DeploymentArchivedError,
    EnvironmentArchivedError,
    SessionClosedError,
    SessionStateError,
    ToolCallNotFoundError,
    ToolCallSettledError,
    VaultArchivedError,
)

# Broken, and will be until somebody mends it.
_LASTING = (CheckpointError, SecretError, ServerNotReadyError)

# The first match counts. What is not here is broken on our side, and may be mended by the time it is tried again.
_STATUS: tuple[tuple[type[SojournError] | tuple[type[SojournError], ...], int], ...] = (
    ((PayloadTooLargeError, FileTooLargeError), 413),
    (SessionBusyError, 429),
    ((InvalidRequestError, *_WRONG_NOW), 400),
    (NotFoundError, 404),
    (HeartbeatRefusedError, 412),
    (ConflictError, 409),
)


class GatewayError(Exception):
    """A refusal that is the gateway's own.

    Args:
        status: HTTP status.
        message: One line: what is wrong and the way out.
        code: `error.details.error_code` of the contract.
        headers: More response headers, such as ``retry-after``.
        details: More of `error.details`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.details = dict(details or {})
        self.headers = dict(headers or {})


def refusal(error: GatewayError | SojournError) -> GatewayError:
    """What a client of the gateway is told about an error."""
    if isinstance(error, GatewayError):
        return error
    code = error.data.get("code")
    code, details = (str(code), None) if code else _lease(error)
    return GatewayError(_status(error), str(error), code=code, headers=_headers(error), details=details)


def _lease(error: SojournError) -> tuple[str | None, Mapping[str, object] | None]:
    """What a worker is told that has lost its item."""
    if not isinstance(error, HeartbeatRefusedError):
        return None, None
    state = {"state": error.state, "last_heartbeat": error.last_heartbeat, "ttl_seconds": error.ttl_seconds}
    return "heartbeat_precondition_failed", {"current_state": state}


def error_response(error: GatewayError, request_id: str) -> Response:
    """The response that tells it."""
    headers = dict(error.headers)
    if error.status == 409:
        headers.setdefault("x-should-retry", "false")
    return Response(error_body(error, request_id), error.status, headers, media_type="application/json")


def error_body(error: GatewayError, request_id: str) -> str:
    """The JSON that tells it."""
    kind = _TYPES.get(error.status, "api_error")
    told: dict[str, object] = {"type": kind, "message": error.message}
    if error.code is not None:
        told["details"] = {"error_code": error.code, **error.details}
    return json.dumps({"type": "error", "error": told, "request_id": request_id})


def _status(error: SojournError) -> int:
    for kinds, status in _STATUS:
        if isinstance(error, kinds):
            return status
    return 503


def _headers(error: SojournError) -> dict[str, str]:
    if isinstance(error, SessionBusyError):
        return {"retry-after": "1"}
    return {"x-should-retry": "false"} if isinstance(error, _LASTING) else {}
