"""API keys: what a key is, and what is stored of it. The secret itself is nowhere but with its holder."""

import hashlib
import hmac
import re
from datetime import datetime
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import Field

from sojourn.types.error import KeyRefusedError
from sojourn.types.id import EnvironmentId, KeyId
from sojourn.types.session import Owner
from sojourn.types.wire import Omitted, Wire

Scope = Literal["read", "write", "control"]
"""``read``: everything that changes nothing. ``write``: create, update, send. ``control``: archive and delete."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

KeyStatus = Literal["active", "expired", "revoked"]

_TOKEN = re.compile(r"sk-sojourn-(key_[0-9a-f]{32})-([A-Za-z0-9_-]{43,128})")


class KeyToken(NamedTuple):
    """A token in its parts. Its representation shows no secret."""

    key_id: KeyId
    secret: str

    def __repr__(self) -> str:
        return f"KeyToken({self.key_id!r})"

    @property
    def text(self) -> str:
        """The token as its holder sends it."""
        return f"sk-sojourn-{self.key_id}-{self.secret}"

    @classmethod
    def read(cls, text: str) -> "KeyToken":
        """Take a token apart.

        Raises:
            KeyRefusedError: It is none.
        """
        if (found := _TOKEN.fullmatch(text)) is None:
            raise KeyRefusedError("malformed")
        return cls(KeyId(found[1]), found[2])

    def digest(self) -> str:
        """What is stored of the secret. A fast hash will do: nobody guesses 256 random bits."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


class KeyRecord(Wire):
    """An API key as it is stored."""

    id: KeyId
    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")]
    owner: Owner
    scopes: tuple[str, ...]
    """Those of `SCOPES`, or of a later release."""
    environment_id: Annotated[EnvironmentId | None, Omitted] = None
    """The self-hosted environment whose workers it is for; it then opens nothing else."""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    created_at: datetime
    expires_at: datetime | None = None
    """``None`` holds until it is revoked."""

    def opens(self, token: KeyToken) -> bool:
        """Whether the secret is the key's."""
        return token.key_id == self.id and hmac.compare_digest(token.digest(), self.digest)

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


class KeyInfo(Wire):
    """An API key as lists show it."""

    id: KeyId
    name: str
    owner: Owner
    scopes: tuple[str, ...]
    environment_id: EnvironmentId | None = None
    status: KeyStatus
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
