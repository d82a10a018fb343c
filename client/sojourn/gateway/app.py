"""The gateway as an ASGI application."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sojourn.gateway.admission import admitted
from sojourn.gateway.audit import audited
from sojourn.gateway.console import CONFIG, console_routes
from sojourn.gateway.endpoint import Call, Endpoint, Gateway
from sojourn.gateway.error import GatewayError, error_response, refusal
from sojourn.gateway.health import health_routes
from sojourn.gateway.openapi import document
from sojourn.gateway.reading import read_body, read_path, read_query
from sojourn.gateway.route import ENDPOINTS
from sojourn.types import SojournError

logger = logging.getLogger("sojourn.gateway")

Serve = Callable[[Request], Awaitable[Response]]


def create_app(gateway: Gateway, *, endpoints: Iterable[Endpoint] = ENDPOINTS) -> Starlette:
    """The application that serves a gateway. Stateless: any number of them may serve the same Temporal namespace."""
    endpoints = tuple(endpoints)

    async def openapi(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(_described, endpoints))

    routes = [Route(each.path, _serve(gateway, each), methods=[each.method]) for each in (*endpoints, CONFIG)]
    routes += [Route("/openapi.json", openapi), *health_routes(gateway), *console_routes()]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _not_served, Exception: _broken})
    # A redirect would lead clients that follow none, or that forget the body, to nothing.
    app.router.redirect_slashes = False
    return app


@cache
def _described(endpoints: tuple[Endpoint, ...]) -> dict[str, Any]:
    """The document of the endpoints, which takes longer to make than a gateway to start."""
    return document(endpoints)


def _serve(gateway: Gateway, endpoint: Endpoint) -> Serve:
    async def serve(request: Request) -> Response:
        call = await _checked(gateway, endpoint, request)
        reply = await endpoint.handler(call)
        request.state.object_id = getattr(reply, "id", None)
        if not isinstance(reply, Response):
            reply = Response(reply.model_dump_json(by_alias=True), media_type="application/json")
        reply.headers.setdefault("anthropic-workspace-id", call.principal.workspace)
        return reply

    return _told(audited(endpoint, serve, request_id=_request_id))


async def _checked(gateway: Gateway, endpoint: Endpoint, request: Request) -> Call[object, object]:
    principal = await admitted(gateway, endpoint, request)
    limit = gateway.options.max_body_bytes
    path = read_path(request)
    query = read_query(request, endpoint.query) if endpoint.query else None
    body, digest = await read_body(request, endpoint.body, limit_bytes=limit) if endpoint.body else (None, "")
    return Call(
        gateway=gateway,
        request=request,
        principal=principal,
        path=path,
        body=body,
        body_digest=digest,
        query=query,
        request_id=_request_id(request),
    )


def _told(serve: Serve) -> Serve:
    """Tell errors as the contract does, and every answer's request id."""

    async def told(request: Request) -> Response:
        try:
            response = await serve(request)
        except (GatewayError, SojournError) as error:
            response = error_response(refusal(error), _request_id(request))
        response.headers["request-id"] = _request_id(request)
        return response

    return told


def _request_id(request: Request) -> str:
    if not hasattr(request.state, "request_id"):
        request.state.request_id = f"req_{uuid.uuid4().hex}"
    return str(request.state.request_id)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path} is not served here; see /openapi.json"
    response = error_response(GatewayError(error.status_code, text), _request_id(request))
    response.headers["request-id"] = _request_id(request)
    return response


async def _broken(request: Request, error: Exception) -> Response:
    request_id = _request_id(request)
    logger.error("request failed", exc_info=error, extra={"request_id": request_id})
    response = error_response(GatewayError(500, f"the gateway failed; its log has more under {request_id}"), request_id)
    response.headers["request-id"] = request_id
    return response
