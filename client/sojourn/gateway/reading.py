"""Reading requests: bodies within the limit, and queries with the SDK's brackets."""

from typing import get_origin

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from sojourn.gateway.error import GatewayError
from sojourn.types.wire import parse


async def read_body(request: Request, kind: type[BaseModel], *, limit_bytes: int) -> BaseModel:
    """The JSON body, checked.

    Raises:
        GatewayError: It is too large, no JSON, or ended early.
        InvalidRequestError: A field is wrong; names its path.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("application/json", ""):
        raise GatewayError(400, f"content-type is {media_type!r}; send application/json")
    return parse(kind, await _bytes(request, limit_bytes) or b"{}")


async def _bytes(request: Request, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit_bytes:
                raise _too_large(limit_bytes)
    except ClientDisconnect:
        raise GatewayError(400, "the request ended before its body did; send it again") from None
    return bytes(data)


def _too_large(limit_bytes: int) -> GatewayError:
    return GatewayError(413, f"the body is over the limit of {limit_bytes:,} bytes; send less or refer to a URL")


def read_query(request: Request, kind: type[BaseModel]) -> BaseModel:
    """The query, checked. A field that is a tuple takes ``name[]=a&name[]=b`` and ``name=a``.

    Raises:
        InvalidRequestError: A parameter is wrong; names it.
    """
    given = request.query_params
    found: dict[str, object] = {}
    for name, field in kind.model_fields.items():
        key = field.alias or name
        if get_origin(field.annotation) is tuple:
            if values := [*given.getlist(f"{key}[]"), *given.getlist(key)]:
                found[key] = values
        elif key in given:
            found[key] = given[key]
    return parse(kind, found)
