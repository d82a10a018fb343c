"""Whether a request may be served at all: key, workspace, scope, rate."""

from dataclasses import replace

from starlette.requests import Request

from sojourn.client.work import WorkStore
from sojourn.gateway.auth import check_workspace
from sojourn.gateway.endpoint import Endpoint, Gateway
from sojourn.gateway.error import GatewayError
from sojourn.gateway.principal import Principal
from sojourn.types import EnvironmentId


async def admitted(gateway: Gateway, endpoint: Endpoint, request: Request) -> Principal:
    """Who makes the request, if they may.

    Raises:
        GatewayError: 401 without a valid key, 403 if it does not allow this, 429 if there are too many.
    """
    principal = await gateway.authenticator.authenticate(request.headers)
    # For the audit log, which also wants those who are refused below.
    request.state.principal = principal
    check_workspace(request.headers, principal)
    if principal.environment_id is not None:
        principal = await _of_worker(gateway, endpoint, request, principal, principal.environment_id)
    elif endpoint.scope not in principal.scopes:
        raise GatewayError(403, f"the key lacks the scope {endpoint.scope!r}; make one with `sojourn keys create`")
    gateway.limiter.check(principal.key_id, reads=endpoint.scope == "read")
    return principal


async def _of_worker(
    gateway: Gateway, endpoint: Endpoint, request: Request, principal: Principal, environment_id: EnvironmentId
) -> Principal:
    """A worker of a self-hosted environment, acting as the owner of the session that it works for.

    Raises:
        GatewayError: 403 for what is not a worker's business.
        SessionNotFoundError: The session is not in the environment.
    """
    if not endpoint.for_workers or request.path_params.get("environment_id", environment_id) != environment_id:
        raise GatewayError(403, f"the key is for workers of environment {environment_id!r}; use an API key for this")
    session_id = request.path_params.get("session_id")
    if session_id is None:
        return principal
    store = WorkStore(gateway.runtime.client, task_queue=gateway.runtime.task_queue)
    owner = await store.session_owner(session_id, environment_id, workspace=principal.workspace)
    return replace(principal, user=owner.user)
