"""The one place where a failed model call is classified.

Imports pydantic-ai, so it is itself imported only once a call is made.
"""

import re
from datetime import timedelta

import httpx2
from pydantic_ai import exceptions

from sojourn.types.error import ModelNotFoundError
from sojourn.types.failure import FailureKind, ModelFailure

MAX_MESSAGE_CHARACTERS = 300
MAX_RETRY_AFTER = timedelta(hours=1)

_RETRYABLE_STATUS = frozenset({408, 409, 425})
_REFUSAL_CODES = frozenset({"content_filter", "content_policy_violation"})
# Providers echo parts of a wrong key, so what only looks like one is hidden as well.
_KEY_LIKE = re.compile(r"\b(?:sk-|AIza|Bearer\s+)[\w*.-]{4,}")


def classify(error: Exception, *, provider: str, secret: str | None = None) -> ModelFailure:
    """Say what kind of failure an exception of a model call is.

    Args:
        error: What pydantic-ai, a provider's SDK or the HTTP client raised.
        provider: The provider's name, for the message.
        secret: The API key of the call; its text never gets into the message.
    """
    kind = _kind(error)
    message = _one_line(_text(error, provider), secret)
    not_found = isinstance(error, exceptions.ModelNotFoundError)
    return ModelFailure(
        kind=kind,
        message=message,
        provider=provider,
        too_long=kind == "fatal" and _too_long(error),
        retry_after=_retry_after(error) if kind in ("retryable", "rate_limited") else None,
        error_class=ModelNotFoundError.__name__ if not_found and kind == "fatal" else None,
    )


def _kind(error: Exception) -> FailureKind:
    match error:
        case exceptions.ModelAPIError():
            return _api_kind(error)
        case exceptions.ContentFilterError():
            return "refused"
        case exceptions.UserError() | httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return "fatal"
        case _:
            # Transport failures, and whatever a decoder raises on a stream that is not what it should be.
            return "retryable"


def _api_kind(error: exceptions.ModelAPIError) -> FailureKind:
    if error.provider_error_code in _REFUSAL_CODES or error.provider_error_type in _REFUSAL_CODES:
        return "refused"
    if isinstance(error, exceptions.ModelHTTPError):
        return _http_kind(error)
    match error:
        case exceptions.ModelQuotaExceededError() | exceptions.ModelRequestRejectedError():
            return "fatal"
        case exceptions.ModelRateLimitError():
            return "rate_limited"
        case _:
            return "retryable"


def _http_kind(error: exceptions.ModelHTTPError) -> FailureKind:
    # Inside a stream the headers are those of the stream's own 200 and say nothing about the error.
    hint = None if error.in_stream else error.provider_retry_hint
    if hint is False:
        return "fatal"
    if isinstance(error, exceptions.ModelQuotaExceededError) and not hint:
        return "fatal"
    if error.status_code == 429:
        return "rate_limited"
    return "retryable" if hint or error.status_code in _RETRYABLE_STATUS or error.status_code >= 500 else "fatal"


def _too_long(error: Exception) -> bool:
    if isinstance(error, exceptions.ModelContextWindowExceededError):
        return True
    # Anthropic's word for a request of too many bytes; less of a conversation is the cure for that too.
    return isinstance(error, exceptions.ModelHTTPError) and error.status_code == 413


def _retry_after(error: Exception) -> timedelta | None:
    if not isinstance(error, exceptions.ModelAPIError) or error.retry_after is None:
        return None
    return min(timedelta(seconds=min(error.retry_after, MAX_RETRY_AFTER.total_seconds())), MAX_RETRY_AFTER)


def _text(error: Exception, provider: str) -> str:
    match error:
        case exceptions.ModelHTTPError():
            said = _said(error.body) or "no explanation given"
            return f"{provider} answered {error.status_code}: {said}{_hint(error)}"
        case exceptions.ModelTimeoutError() | httpx2.TimeoutException():
            return f"{provider} did not answer in time: {_reason(error)}"
        case exceptions.ModelConnectionError() | httpx2.TransportError():
            return f"the connection to {provider} failed: {_reason(error)}"
        case exceptions.ModelAPIError():
            return f"{provider} failed: {_reason(error)}"
        case exceptions.UserError() | httpx2.InvalidURL():
            return f"{provider} cannot be asked: {_reason(error)}"
        case _:
            return f"{provider} gave an answer that cannot be read: {_reason(error)}"


def _hint(error: exceptions.ModelHTTPError) -> str:
    if error.suggested_model_id is not None:
        return f"; did you mean {error.suggested_model_id!r}?"
    match error.status_code:
        case 401 | 403:
            return "; check the API key in the worker's environment"
        case _:
            return ""


def _reason(error: Exception) -> str:
    # Some transport errors have no text of their own.
    return str(error) or type(error).__name__


def _said(body: object) -> str:
    """The provider's own words in an error body, whichever of the usual shapes it has."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            return str(inner.get("message") or inner)
        return str(inner)
    return "" if body is None else str(body)


def _one_line(text: str, secret: str | None) -> str:
    if secret:
        text = text.replace(secret, "***")
    line = _KEY_LIKE.sub("***", " ".join(text.split()))
    return line if len(line) <= MAX_MESSAGE_CHARACTERS else f"{line[: MAX_MESSAGE_CHARACTERS - 1]}…"
