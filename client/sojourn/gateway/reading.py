"""Reading requests: bodies within the limit, queries with the SDK's brackets, ids in paths."""

import hashlib
import re
from collections.abc import Mapping
from typing import get_origin

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from sojourn.gateway.error import GatewayError
from sojourn.gateway.parsing import parse_json, parse_query

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


async def read_body(request: Request, kind: type[BaseModel], *, limit_bytes: int) -> tuple[BaseModel, str]:
    """The JSON body, checked, and a digest of its bytes.

    Raises:
        GatewayError: It is too large, no JSON, or ended early.
        InvalidRequestError: A field is wrong; names its path.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("application/json", ""):
        raise GatewayError(400, f"content-type is {media_type[:100]!r}; send application/json")
    data = await _bytes(request, limit_bytes) or b"{}"
    return parse_json(kind, data), hashlib.sha256(data).hexdigest()


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


def read_path(request: Request) -> Mapping[str, str]:
    """The ids in the path.

    Raises:
        GatewayError: One cannot be an id, so there is no such thing.
    """
    for name, value in request.path_params.items():
        if not _ID.fullmatch(value):
            raise GatewayError(404, f"{name.removesuffix('_id').replace('_', ' ')} {value[:100]!r} not found")
    return request.path_params


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
    return parse_query(kind, found)
