"""`/healthz` and `/readyz`: whether the process lives, and whether it can serve."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.service import RPCError

from sojourn.gateway.endpoint import Gateway

_PATIENCE = timedelta(seconds=3)
"""For the Temporal server: below the timeouts that probes are given as a rule."""


def health_routes(gateway: Gateway) -> list[Route]:
    """Both routes. They need no key."""

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        if gateway.closing.is_set():
            return _unready("the gateway is stopping")
        try:
            served = await gateway.runtime.client.service_client.check_health(timeout=_PATIENCE)
        except RPCError as error:
            return _unready(f"Temporal does not answer: {error.message or error.status.name}")
        return JSONResponse({"status": "ok"}) if served else _unready("Temporal does not serve")

    return [Route("/healthz", alive), Route("/readyz", ready)]


def _unready(reason: str) -> Response:
    return JSONResponse({"status": "unavailable", "reason": " ".join(reason.split())}, 503)
