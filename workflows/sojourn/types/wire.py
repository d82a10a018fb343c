"""The base of everything that crosses a process, and the two ways to read it.

Input is read strictly: an unknown field is an error that names its path. History is read tolerantly, because an
older release must be able to read what a newer one wrote (`sojourn.types.converter`).
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sojourn.types.error import InvalidRequestError

T = TypeVar("T")


class Wire(BaseModel):
    """A frozen value that refuses unknown fields when it is built or parsed as input."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_timedelta="float", validate_default=False)


def _is_empty(value: object) -> bool:
    return value is None or value == () or value == "" or value is False or value == 0


Omitted = Field(exclude_if=_is_empty)
"""Marks a field that is left off the wire while it is empty; its default must be the empty value of its type."""

Unset = Field(exclude_if=lambda value: value is None)
"""Marks a field that is left off the wire while it is ``None``, where an empty text says something."""

Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[str, Field(max_length=512)],
    ],
    Field(max_length=16),
]
"""Up to 16 pairs of strings, keys up to 64 and values up to 512 characters (Managed Agents API §0.1)."""


def parse(kind: type[T] | Any, data: object) -> T:
    """Read input from outside, strictly.

    Args:
        kind: A `Wire` class or any type pydantic can validate, unions included.
        data: JSON text or bytes, or already decoded JSON.

    Raises:
        InvalidRequestError: Names the path of the first field that is wrong, unknown or missing.
    """
    adapter: TypeAdapter[T] = TypeAdapter(kind)
    try:
        if isinstance(data, str | bytes):
            return adapter.validate_json(data)
        return adapter.validate_python(data)
    except ValidationError as error:
        raise InvalidRequestError.from_validation(error) from None
