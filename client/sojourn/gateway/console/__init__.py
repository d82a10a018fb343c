"""The console: one page in the browser, for those who watch and answer sessions.

The page is plain modules and style sheets in this package; it needs no build and nothing from elsewhere. It talks to
the public API alone, with the key its user gives it.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.types.wire import Wire

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No code of the page may make elements or scripts out of text, ours included.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Always asked for, mostly answered with 304: the page is never older than the gateway.
    "cache-control": "no-cache",
}


class ConsoleConfig(Wire):
    """What the page must know beyond the API."""

    workspace: str
    user: str
    scopes: tuple[str, ...]
    namespace: str
    """Of Temporal."""
    ui_url: str | None


async def _config(call: Call[None, None]) -> ConsoleConfig:
    principal = call.principal
    return ConsoleConfig(
        workspace=principal.workspace,
        user=principal.user,
        scopes=tuple(sorted(principal.scopes)),
        namespace=call.runtime.client.namespace,
        ui_url=call.gateway.options.ui_url,
    )


CONFIG = Endpoint(
    "GET", "/console/config", "console.config", _config, "read", "What the console needs", reply=ConsoleConfig
)
"""Not part of the public API; it also tells the page whether a key is good."""


@dataclass(frozen=True)
class _Asset:
    content: bytes
    media_type: str
    etag: str

    async def serve(self, request: Request) -> Response:
        headers = {**_HEADERS, "etag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def console_routes() -> list[Route]:
    """The page and its parts. They hold no secrets and need no key."""
    assets = _assets()
    page = assets.pop("index.html")
    parts = [Route(f"/console/{name}", asset.serve) for name, asset in sorted(assets.items())]
    return [Route("/", page.serve), *parts]


def _assets() -> dict[str, _Asset]:
    found = {}
    for file in (files("sojourn.gateway.console") / "page").iterdir():
        media_type = _TYPES.get(file.name[file.name.rfind(".") :])
        if media_type is not None:
            content = file.read_bytes()
            found[file.name] = _Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found
