"""How a turn fails, and how the log tells it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from sojourn.types.event import (
        SessionErrorEvent,
    )
    from sojourn.types.failure import ModelFailure
    from sojourn.types.session_error import ErrorDetail, RetryStatus

_ERROR_TYPES = {
    "rate_limited": "model_rate_limited_error",
    "retryable": "model_overloaded_error",
    "refused": "model_request_failed_error",
    "fatal": "model_request_failed_error",
}


class TurnFailedError(Exception):
    """The turn cannot go on; the reason has been classified."""

    def __init__(self, failure: ModelFailure, *, error_type: str | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.error_type = error_type or _ERROR_TYPES[failure.kind]


def does_not_fit(refused: ModelFailure, why: str) -> TurnFailedError:
    """The conversation is too long for the model, and compaction was no help."""
    text = f"the conversation does not fit the model's window: {why}; send less at once or take a larger model"
    failure = refused.model_copy(update={"message": f"{text} ({refused.message})"})
    return TurnFailedError(failure, error_type="compaction_limit_reached_error")


def error_event(error: TurnFailedError, *, retry: str) -> SessionErrorEvent:
    """The log's word on a failure."""
    return SessionErrorEvent(
        error=ErrorDetail(
            type=error.error_type,
            message=error.failure.message[:300],
            retry_status=RetryStatus.model_validate({"type": retry}),
            error_class=error.failure.error_class,
        )
    )
