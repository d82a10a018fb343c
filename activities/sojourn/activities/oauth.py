"""A new access token for a refresh token (RFC 6749 §6, RFC 8707)."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote_plus, urlencode

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationError

from sojourn.activities.outbound import Answer, Outbound, UnreachableError
from sojourn.types.credential import OAuthRefresh
from sojourn.types.secret import SecretName, Token
from sojourn.types.vault import HttpAnswer, TokenRefresh

SHOWN_CHARACTERS = 2000
"""Of an answer, in what is told of it: it is kept in history."""

_MAX_LIFE = timedelta(days=3650)


class _Granted(BaseModel):
    """What a token endpoint grants; everything else it says is nobody's business."""

    access_token: Token
    refresh_token: Token | None = None
    expires_in: Annotated[float | None, BeforeValidator(lambda value: None if value == "" else value)] = Field(
        default=None, ge=0, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Grant:
    """What came of asking. ``secrets`` are new ones, by their names."""

    refresh: TokenRefresh
    secrets: Mapping[SecretName, SecretStr]
    expires_at: datetime | None = None


async def fetch_token(
    outbound: Outbound, config: OAuthRefresh, *, refresh_token: SecretStr, client_secret: SecretStr | None
) -> Grant:
    """Ask for a new access token, once. Refused or unreachable is an outcome, no error."""
    given = [refresh_token] if client_secret is None else [refresh_token, client_secret]
    headers, form = _request(config, refresh_token, client_secret)
    try:
        answer = await outbound.request(
            "POST", config.token_endpoint, headers=headers, content=urlencode(form).encode()
        )
    except UnreachableError as error:
        return Grant(TokenRefresh(status="connect_error", reason=f"the token endpoint: {error}"), {})
    if not answer.is_success:
        reason = f"the token endpoint answered {answer.status}{_error_code(answer)}"
        return Grant(TokenRefresh(status="failed", reason=reason, http_response=shown(answer, given)), {})
    try:
        granted = _Granted.model_validate_json(answer.body)
    except ValidationError:
        # The answer itself is not shown: there may be a token in it.
        bare = HttpAnswer(status_code=answer.status, content_type=answer.content_type[:200])
        reason = "the token endpoint's answer holds no access token"
        return Grant(TokenRefresh(status="failed", reason=reason, http_response=bare), {})
    found: dict[SecretName, SecretStr] = {"access_token": granted.access_token}
    if granted.refresh_token is not None:
        found["refresh_token"] = granted.refresh_token
    return Grant(TokenRefresh(status="succeeded"), found, _end(granted))


def _request(
    config: OAuthRefresh, refresh_token: SecretStr, client_secret: SecretStr | None
) -> tuple[dict[str, str], dict[str, str]]:
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token.get_secret_value()}
    if config.scope:
        form["scope"] = config.scope
    if config.resource:
        form["resource"] = config.resource
    secret = client_secret.get_secret_value() if client_secret is not None else ""
    match config.token_endpoint_auth.type:
        case "client_secret_basic":
            # Each part is encoded as in a form, before they are joined (RFC 6749 §2.3.1).
            pair = f"{quote_plus(config.client_id)}:{quote_plus(secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        case "client_secret_post":
            form |= {"client_id": config.client_id, "client_secret": secret}
        case "none":
            form["client_id"] = config.client_id
    return headers, form


def _end(granted: _Granted) -> datetime | None:
    if granted.expires_in is None:
        return None
    return datetime.now(UTC) + min(timedelta(seconds=min(granted.expires_in, 1e9)), _MAX_LIFE)


def _error_code(answer: Answer) -> str:
    # As RFC 6749 §5.2 has it; whatever else it may be is not repeated.
    found = re.search(r'"error"\s*:\s*"([a-z_]{1,40})"', answer.body)
    return f" ({found[1]})" if found else ""


_TOKENS = re.compile(r'("[^"]*(?:token|secret|password|assertion)[^"]*"\s*:\s*")[^"]*"', re.IGNORECASE)


def shown(answer: Answer, secrets: Iterable[SecretStr]) -> HttpAnswer:
    """An answer as it may be shown and kept: short, without these secrets and what looks like one."""
    body = answer.body
    for secret in secrets:
        plain = secret.get_secret_value()
        escaped = json.dumps(plain)[1:-1]
        encoded = base64.b64encode(plain.encode()).decode()
        for form in (plain, quote_plus(plain), escaped, escaped.replace("/", "\\/"), encoded):
            body = body.replace(form, "[secret]")
    body = _TOKENS.sub(r'\1[secret]"', body)
    return HttpAnswer(
        status_code=answer.status,
        content_type=answer.content_type[:200],
        body=body[:SHOWN_CHARACTERS],
        body_truncated=len(body) > SHOWN_CHARACTERS,
    )
