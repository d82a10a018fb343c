"""Whether a request may be served at all: key, workspace, scope, rate."""

from starlette.requests import Request

from sojourn.gateway.auth import check_workspace
from sojourn.gateway.endpoint import Endpoint, Gateway
from sojourn.gateway.error import GatewayError
from sojourn.gateway.principal import Principal


async def admitted(gateway: Gateway, endpoint: Endpoint, request: Request) -> Principal:
    """Who makes the request, if they may.

    Raises:
        GatewayError: 401 without a valid key, 403 if it does not allow this, 429 if there are too many.
    """
    principal = await gateway.authenticator.authenticate(request.headers)
    # For the audit log, which also wants those who are refused below.
    request.state.principal = principal
    check_workspace(request.headers, principal)
    if endpoint.scope not in principal.scopes:
        raise GatewayError(403, f"the key lacks the scope {endpoint.scope!r}; make one with `sojourn keys create`")
    gateway.limiter.check(principal.key_id, reads=endpoint.scope == "read")
    return principal
