"""Saying no from a handler, in the form that the client turns back into our own error."""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from sojourn.types.error import SojournError, error_type


def refuse(error: SojournError) -> ApplicationError:
    """The error as it travels. Raise it from an update's validator: a refused update leaves no trace in history."""
    return ApplicationError(str(error), error.data, type=error_type(error), non_retryable=True)
