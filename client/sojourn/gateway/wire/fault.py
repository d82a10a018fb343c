"""Faults that validators find deep inside what was sent, with the path to them."""

from typing import Annotated

from pydantic import BeforeValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


def fault(*path: str | int, message: str) -> ValidationError:
    """What a validator raises to blame something inside the value it was given; pydantic puts the outer path before.

    Args:
        path: From the validated value to what is wrong.
        message: What is wrong, in lower case.
    """
    # The text is a template to pydantic, which fills braces from a table.
    error = PydanticCustomError("value_error", "{message}", {"message": message})
    return ValidationError.from_exception_data("request", [InitErrorDetails(type=error, loc=path, input=None)])


def _absent(value: object) -> None:
    if value is not None:
        raise PydanticCustomError("not_supported", "not supported yet; leave it out")


NotYet = Annotated[None, BeforeValidator(_absent, json_schema_input_type=None)]
"""A field of the contract that nothing stands behind yet: refused, rather than ignored."""


def _empty(value: object) -> object:
    if value is None or value == [] or value == ():
        return ()
    raise PydanticCustomError("not_supported", "not supported yet; leave it out")


NoneYet = Annotated[tuple[()], BeforeValidator(_empty)]
"""The same for a list."""
