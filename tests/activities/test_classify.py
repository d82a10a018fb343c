from datetime import timedelta

import httpx2
import pytest
from pydantic_ai import exceptions

from sojourn.activities.classify import MAX_MESSAGE_CHARACTERS, MAX_RETRY_AFTER, classify
from sojourn.types.failure import FailureKind


def http_error(
    status: int, body: object = None, headers: dict[str, str] | None = None, *, in_stream: bool = False
) -> exceptions.ModelHTTPError:
    return exceptions.ModelHTTPError(status, "m", body, headers=headers, in_stream=in_stream)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "fatal"),
        (401, "fatal"),
        (402, "fatal"),
        (403, "fatal"),
        (404, "fatal"),
        (408, "retryable"),
        (409, "retryable"),
        (413, "fatal"),
        (422, "fatal"),
        (425, "retryable"),
        (429, "rate_limited"),
        (500, "retryable"),
        (502, "retryable"),
        (503, "retryable"),
        (504, "retryable"),
        (529, "retryable"),
    ],
)
def test_a_status_has_its_kind(status: int, kind: FailureKind) -> None:
    assert classify(http_error(status), provider="openai").kind == kind


@pytest.mark.parametrize(
    ("status", "hint", "kind"),
    [
        (500, "false", "fatal"),
        (429, "false", "fatal"),
        (400, "true", "retryable"),
        (429, "true", "rate_limited"),
        (500, "perhaps", "retryable"),
    ],
)
def test_the_providers_own_word_on_retrying_wins(status: int, hint: str, kind: FailureKind) -> None:
    error = http_error(status, headers={"X-Should-Retry": hint})

    assert classify(error, provider="anthropic").kind == kind


def test_the_word_of_a_stream_that_began_well_is_not_about_its_error() -> None:
    error = http_error(529, headers={"x-should-retry": "false"}, in_stream=True)

    assert classify(error, provider="anthropic").kind == "retryable"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ModelConnectionError("m", "refused"), "retryable"),
        (exceptions.ModelTimeoutError("m", "timed out"), "retryable"),
        (exceptions.ModelRequestTimeout("m", 3), "retryable"),
        (exceptions.ModelOverloadedError("m", "busy"), "retryable"),
        (exceptions.ModelRateLimitError("m", "slow down"), "rate_limited"),
        (exceptions.ModelQuotaExceededError("m", "no credit"), "fatal"),
        (exceptions.ModelRequestRejectedError("m", "too long"), "fatal"),
        (exceptions.ModelAPIError("m", "Failed to decode response"), "retryable"),
        (exceptions.ModelAPIError("m", "blocked", provider_error_code="content_filter"), "refused"),
        (exceptions.ContentFilterError("blocked"), "refused"),
        (exceptions.UnexpectedModelBehavior("no end"), "retryable"),
        (exceptions.UserError("unsupported file"), "fatal"),
        (httpx2.ReadError("cut"), "retryable"),
        (httpx2.ReadTimeout(""), "retryable"),
        (KeyError("choices"), "retryable"),
    ],
)
def test_an_exception_has_its_kind(error: Exception, kind: FailureKind) -> None:
    assert classify(error, provider="openai").kind == kind


def test_spent_credit_is_no_rate_limit() -> None:
    error = exceptions.ModelHTTPError.for_category(
        exceptions.ModelQuotaExceededError, status_code=429, model_name="m", headers={"retry-after": "60"}
    )

    failure = classify(error, provider="openai")

    assert failure.kind == "fatal"
    assert failure.retry_after is None


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, timedelta(seconds=7)),
        ({"retry-after-ms": "1500"}, timedelta(seconds=1.5)),
        ({"retry-after": "7", "retry-after-ms": "250"}, timedelta(seconds=0.25)),
        ({"retry-after": "86400"}, MAX_RETRY_AFTER),
        ({"retry-after": "99999999999999"}, MAX_RETRY_AFTER),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, MAX_RETRY_AFTER),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, timedelta(0)),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_from_the_headers(headers: dict[str, str], wait: timedelta | None) -> None:
    assert classify(http_error(429, headers=headers), provider="openai").retry_after == wait
    assert classify(http_error(503, headers=headers), provider="openai").retry_after == wait


def test_an_unknown_model_is_told_as_such() -> None:
    error = exceptions.ModelHTTPError.for_category(
        exceptions.ModelNotFoundError,
        status_code=404,
        model_name="gpt-55",
        body={"error": {"message": "no model 'gpt-55'"}},
        suggested_model_id="gpt-5.5",
    )

    failure = classify(error, provider="openai")

    assert failure.error_class == "ModelNotFoundError"
    assert failure.message == "openai answered 404: no model 'gpt-55'; did you mean 'gpt-5.5'?"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "too busy"}}, "too busy"),
        ({"message": "too busy"}, "too busy"),
        ({"error": "too busy"}, "too busy"),
        ("<html>\n  too busy\n</html>", "<html> too busy </html>"),
        (None, "no explanation given"),
    ],
)
def test_the_message_has_the_providers_words_on_one_line(body: object, said: str) -> None:
    assert classify(http_error(500, body), provider="ollama").message == f"ollama answered 500: {said}"


def test_a_long_message_is_cut() -> None:
    message = classify(http_error(500, "x" * 5000), provider="openai").message

    assert len(message) == MAX_MESSAGE_CHARACTERS
    assert message.endswith("…")


def test_the_key_is_masked_before_the_message_is_cut() -> None:
    secret = "very-secret-value-of-the-key"
    filler = "x" * (MAX_MESSAGE_CHARACTERS - 35)

    message = classify(http_error(500, f"{filler} {secret}"), provider="openai", secret=secret).message

    assert "very-secret" not in message
    assert message.endswith("***")


@pytest.mark.parametrize("echo", ["sk-proj-ab***********yz", "Bearer abcdefgh", "AIzaSyAbcdefgh-_"])
def test_what_looks_like_a_key_is_masked(echo: str) -> None:
    message = classify(http_error(401, {"error": {"message": f"bad key {echo}"}}), provider="openai").message

    assert message == "openai answered 401: bad key ***; check the API key in the worker's environment"


def test_a_conversation_that_the_model_cannot_take_is_told_apart() -> None:
    error = exceptions.ModelHTTPError.for_category(
        exceptions.ModelContextWindowExceededError, status_code=400, model_name="m", body={"message": "too long"}
    )

    assert classify(error, provider="openai").too_long
    assert classify(exceptions.ModelContextWindowExceededError("m", "too long"), provider="openai").too_long
    assert classify(http_error(413), provider="anthropic").too_long
    assert not classify(http_error(400), provider="openai").too_long


def test_a_connection_failure_without_words_is_named() -> None:
    assert classify(httpx2.ReadTimeout(""), provider="google").message == "google did not answer in time: ReadTimeout"
