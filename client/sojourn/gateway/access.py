"""One line in the log for each request, with the id that its answer carries."""

import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("sojourn.gateway.access")


class AccessLog:
    """ASGI middleware. A stream is logged when it ends; its time is how long it was open."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        told: dict[str, object] = {"method": scope["method"], "path": scope["path"], "status": 499}

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                if (found := Headers(raw=message.get("headers", ())).get("request-id")) is not None:
                    told["request_id"] = found
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            told["duration_ms"] = round((time.perf_counter() - began) * 1000, 1)
            # The query stays out: it may carry what its sender takes for private.
            logger.info("%(method)s %(path)s %(status)s %(duration_ms)s ms", told, extra=told)
