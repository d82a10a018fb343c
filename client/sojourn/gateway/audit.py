"""Who did what: one line for each call that changes something, and for each caller who was refused.

Logger ``sojourn.gateway.audit``, level INFO; the fields are in the record's ``audit``. Neither bodies nor tokens.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import Response

from sojourn.gateway.auth import AuthenticationError
from sojourn.gateway.endpoint import Endpoint
from sojourn.gateway.error import GatewayError, refusal
from sojourn.gateway.principal import Principal
from sojourn.types import SojournError

logger = logging.getLogger("sojourn.gateway.audit")

_GONE = 499
"""Status of a call whose caller went away before there was an answer."""


@dataclass(frozen=True)
class AuditEntry:
    """One call. The time is the record's."""

    operation: str
    method: str
    route: str
    """The path's template, such as ``/v1/agents/{agent_id}``."""
    status: int
    request_id: str
    object_id: str | None = None
    """What the call was about: the last id in the path, or of what it made."""
    key_id: str | None = None
    workspace: str | None = None
    user: str | None = None
    reason: str | None = None
    """Why the caller was refused; they were told less."""


def record(entry: AuditEntry) -> None:
    """Write an entry to the log."""
    fields = {name: value for name, value in asdict(entry).items() if value is not None}
    shown = " ".join(
        # What a caller writes into a path may hold anything, the end of this line included.
        f"{name}={re.sub(r'[^!-~]', '?', str(value))}"
        for name, value in fields.items()
        if name not in ("operation", "method", "route")
    )
    logger.info("%s %s %s", entry.method, entry.route, shown, extra={"audit": fields})


Serve = Callable[[Request], Awaitable[Response]]


def audited(endpoint: Endpoint, serve: Serve, *, request_id: Callable[[Request], str]) -> Serve:
    """Serve, and write down what came of it."""

    async def audited_serve(request: Request) -> Response:
        id = request_id(request)
        try:
            response = await serve(request)
        except (GatewayError, SojournError) as error:
            status = refusal(error).status
            if endpoint.scope != "read" or status in (401, 403):
                record(_entry(endpoint, request, id, status=status, error=error))
            raise
        except BaseException as error:
            if endpoint.scope != "read":
                status = 500 if isinstance(error, Exception) else _GONE
                record(_entry(endpoint, request, id, status=status))
            raise
        if endpoint.scope != "read":
            record(_entry(endpoint, request, id, status=response.status_code))
        return response

    return audited_serve


def _entry(
    endpoint: Endpoint, request: Request, request_id: str, *, status: int, error: Exception | None = None
) -> AuditEntry:
    principal: Principal | None = getattr(request.state, "principal", None)
    refused = error if isinstance(error, AuthenticationError) else None
    return AuditEntry(
        operation=endpoint.operation,
        method=endpoint.method,
        route=endpoint.path,
        status=status,
        request_id=request_id,
        object_id=_object_id(request),
        key_id=principal.key_id if principal else refused.key_id if refused else None,
        workspace=principal.workspace if principal else None,
        user=principal.user if principal else None,
        reason=refused.reason if refused else None,
    )


def _object_id(request: Request) -> str | None:
    made = getattr(request.state, "object_id", None)
    ids = list(request.path_params.values())
    found = made or (ids[-1] if ids else None)
    return str(found)[:128] if found else None
