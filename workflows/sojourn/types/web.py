"""Settings of the web tools (Managed Agents API §5.1)."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sojourn.types.wire import Omitted, Wire

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*(/[!-~]*)?")


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no domain; write a bare host such as docs.example.com")
    return text


Domain = Annotated[
    str,
    Field(min_length=1, max_length=253, json_schema_extra={"pattern": f"^{_DOMAIN.pattern}$"}),
    AfterValidator(_domain),
]
"""A host, with all below it. For a search, the beginning of a path may follow."""

MAX_DOMAINS = 64


class UserLocation(Wire):
    """Roughly where the user is, for searches."""

    type: Literal["approximate"] = "approximate"
    city: Annotated[str | None, Field(max_length=255), Omitted] = None
    region: Annotated[str | None, Field(max_length=255), Omitted] = None
    country: Annotated[str | None, Field(pattern=r"^[A-Z]{2}$"), Omitted] = None
    timezone: Annotated[str | None, Field(max_length=255), Omitted] = None
