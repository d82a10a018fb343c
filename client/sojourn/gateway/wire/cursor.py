"""Cursors of pages: opaque to clients, and good only for the list that made them."""

import base64
import binascii
import json

from sojourn.types import InvalidRequestError


def cursor(kind: str, **place: str | int) -> str:
    """A cursor that leads to a place in a list.

    Args:
        kind: Which list; `read_cursor` refuses the cursors of others.
        place: What the list needs to go on.
    """
    text = json.dumps([kind, place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(kind: str, text: str) -> dict[str, str | int]:
    """The place in a cursor.

    Raises:
        InvalidRequestError: It is no cursor, or one of another list.
    """
    try:
        found, place = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise bad_cursor() from None
    if found != kind or not isinstance(place, dict):
        raise bad_cursor()
    if not all(isinstance(each, str | int) for each in place.values()):
        raise bad_cursor()
    return place


def bad_cursor() -> InvalidRequestError:
    """What is raised for a cursor that is none."""
    return InvalidRequestError("page: no cursor of this list; use next_page of its last reply", param="page")
