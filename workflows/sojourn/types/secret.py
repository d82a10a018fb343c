"""Texts that are secret: written once, never shown. Their representations and JSON hide them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

MAX_SECRET_BYTES = 16 * 1024
"""All secrets of a full vault have to fit into one payload of 2 MiB, which is what its workflow carries on."""

SecretName = Literal["access_token", "refresh_token", "client_secret", "token", "secret_value", "placeholder_key"]
"""What is sealed of a credential. ``placeholder_key`` is made with an environment variable, by us."""


def _token(secret: SecretStr) -> SecretStr:
    text = _bounded(secret).get_secret_value()
    # It goes into a header: a line break would end it and begin another.
    if not all("!" <= each <= "~" for each in text):
        raise ValueError("holds what no token does; write visible ASCII characters alone")
    return secret


def _bounded(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text:
        raise ValueError("is empty; write the secret, or leave it out to keep the one there is")
    if "\0" in text:
        raise ValueError("holds a NUL character; leave it out")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("is no valid Unicode") from None
    if size > MAX_SECRET_BYTES:
        raise ValueError(f"has {size:,} bytes, more than the {MAX_SECRET_BYTES:,} that fit")
    return secret


Token = Annotated[SecretStr, AfterValidator(_token)]
"""A secret that is sent in a header or a form."""

SecretText = Annotated[SecretStr, AfterValidator(_bounded)]
"""Any secret."""

KeptToken = Annotated[Token | None, Field(exclude=True)]
KeptText = Annotated[SecretText | None, Field(exclude=True)]
"""In a change: ``None`` keeps the secret there is. Neither ever goes over the wire to Temporal, not even masked."""


class Secretive(BaseModel):
    """Holds secrets, which its errors do not show either. It is what a caller writes, and never goes to Temporal."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
