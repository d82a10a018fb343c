"""JSON and query values as shapes of the contract, with the path of what is wrong."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from sojourn.types import InvalidRequestError

M = TypeVar("M", bound=BaseModel)

_LONGEST_PART = 100
_LONGEST_TEXT = 500

_TEXTS = {
    "extra_forbidden": "unknown field; leave it out",
    "missing": "field required",
}


def parse_json(kind: type[M], data: bytes) -> M:
    """Read a body strictly: a number is no text, and nothing unknown is let through.

    Raises:
        InvalidRequestError: Names the path of the first field that is wrong, as the client wrote it.
    """
    try:
        return kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise refused(error, _loose(data)) from None


def parse_query(kind: type[M], data: dict[str, object]) -> M:
    """Read query parameters, which are all text.

    Raises:
        InvalidRequestError: Names the parameter.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise refused(error, data) from None


def refused(error: ValidationError, data: object, *, prefix: str = "") -> InvalidRequestError:
    """The first fault in the words of the contract: ``tools.0.name: …``.

    Args:
        error: What pydantic says.
        data: What it was given, as plain JSON.
        prefix: Path of that inside the request, with a dot at the end.
    """
    first = error.errors(include_url=False)[0]
    path = prefix + _path(first, data)
    text = _TEXTS.get(first["type"], first["msg"].removeprefix("Value error, "))
    text = f"{text[:1].lower()}{text[1:_LONGEST_TEXT]}"
    return InvalidRequestError(f"{path or 'body'}: {text}", param=path or None)


def _path(error: ErrorDetails, data: object) -> str:
    """The path as the client sees it: without the names of the variants that pydantic puts between."""
    parts: list[str] = []
    node, arrived = data, True
    location = error["loc"]
    for place, part in enumerate(location):
        if arrived and _is_variant(node, part, last=place == len(location) - 1, missing=error["type"] == "missing"):
            arrived = False
            continue
        if place and not isinstance(node, dict | list):
            # A short form, such as text for an object: what is wrong inside is wrong with the whole.
            break
        parts.append(str(part)[:_LONGEST_PART])
        node, arrived = _inside(node, part), True
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        parts.append("type")
    return ".".join(parts)


def _is_variant(node: object, part: int | str, *, last: bool, missing: bool) -> bool:
    """Whether a part of pydantic's location is the name of a variant, such as ``text``, and no field."""
    if not isinstance(node, dict) or node.get("type") != part:
        return False
    return not (last and (missing or part in node))


def _inside(node: object, part: int | str) -> object:
    if isinstance(node, dict):
        return node.get(part)
    if isinstance(node, Sequence) and isinstance(part, int) and part < len(node):
        return node[part]
    return None


def _loose(data: bytes) -> object:
    try:
        return from_json(data)
    except ValueError:
        return None
