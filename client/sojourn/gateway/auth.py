"""Who makes a request: the API key in its headers, as any release of the SDK sends it."""

from collections.abc import Mapping
from typing import Literal, Protocol

from starlette.datastructures import Headers

from sojourn.gateway.error import GatewayError
from sojourn.gateway.principal import Principal
from sojourn.types import InternalError, KeyRefusedError
from sojourn.types.error import KeyRefusal
from sojourn.types.key import KeyRecord, KeyToken

_WORKSPACE = "anthropic-workspace-id"

Refusal = KeyRefusal | Literal["missing", "ambiguous", "workspace", "scope"]
"""Why a caller was refused, for the audit log."""


class AuthenticationError(GatewayError):
    """No valid key. What the caller is told does not depend on ``reason``."""

    def __init__(self, message: str, *, reason: Refusal, key_id: str | None = None) -> None:
        super().__init__(401, message, headers={"www-authenticate": "Bearer"})
        self.reason = reason
        self.key_id = key_id
        """The key that the caller claims to have, if it could be read."""


class Verifier(Protocol):
    """Tells which key a token opens; `KeyCache` is one."""

    async def verify(self, token: str) -> KeyRecord:
        """The key.

        Raises:
            InternalError: That cannot be found out now.
            KeyRefusedError: It opens none.
        """
        ...


class KeyAuthenticator:
    """Authenticates by API key. Without a valid one nothing is allowed."""

    def __init__(self, keys: Verifier) -> None:
        self._keys = keys

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The holder of the key in the headers.

        Raises:
            GatewayError: 401 when there is no valid key; 503 when that cannot be found out.
        """
        token = token_of(headers)
        try:
            key = await self._keys.verify(token)
        except KeyRefusedError as refused:
            raise AuthenticationError(str(refused), reason=refused.reason, key_id=_claimed(token)) from None
        except InternalError as error:
            raise GatewayError(503, str(error), headers={"retry-after": "1"}) from None
        return Principal(
            key_id=key.id,
            workspace=key.owner.workspace,
            user=key.owner.user,
            scopes=frozenset(key.scopes),
            environment_id=key.environment_id,
        )


def token_of(headers: Mapping[str, str]) -> str:
    """The API key in ``x-api-key`` or ``Authorization: Bearer``; in both, if they agree.

    Raises:
        AuthenticationError: There is none, or there are several.
    """
    schemes = [value.strip().partition(" ") for value in _values(headers, "authorization")]
    bearer = [token.strip() for scheme, _, token in schemes if scheme.lower() == "bearer"]
    tokens = {token for token in (*(value.strip() for value in _values(headers, "x-api-key")), *bearer) if token}
    if not tokens:
        text = "no API key; send one as x-api-key or Authorization: Bearer (`sojourn keys create` makes one)"
        raise AuthenticationError(text, reason="missing")
    if len(tokens) > 1:
        text = "x-api-key and Authorization name different keys; send one"
        raise AuthenticationError(text, reason="ambiguous")
    return tokens.pop()


def check_workspace(headers: Mapping[str, str], principal: Principal) -> None:
    """Refuse a request that names a workspace which is not the key's.

    Raises:
        GatewayError: 403.
    """
    for named in _values(headers, _WORKSPACE):
        if named.strip() != principal.workspace:
            text = f"the key does not belong to workspace {named.strip()[:128]!r}; leave {_WORKSPACE} out"
            raise GatewayError(403, text)


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    if isinstance(headers, Headers):
        return headers.getlist(name)
    return [value for key, value in headers.items() if key.lower() == name]


def _claimed(token: str) -> str | None:
    try:
        return KeyToken.read(token).key_id
    except KeyRefusedError:
        return None
