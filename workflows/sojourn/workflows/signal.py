"""Reading what a signal carries, which anybody may have sent."""

from collections.abc import Sequence

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from sojourn.types.name import USER_EVENTS_SIGNAL
    from sojourn.types.record import UserEvents


def read_signal(name: str, arguments: Sequence[RawValue]) -> UserEvents | None:
    """The client's events, or ``None`` for anything else; readers of the log leave out the same signals."""
    if name != USER_EVENTS_SIGNAL or len(arguments) != 1:
        return None
    try:
        found: object = workflow.payload_converter().from_payload(arguments[0].payload, UserEvents)
    except (LookupError, RuntimeError, ValueError) as error:
        # Not the error's text: it quotes what was sent.
        workflow.logger.warning("a signal that carries no events is left out (%s)", type(error).__name__)
        return None
    return found if isinstance(found, UserEvents) else None


def read_text(arguments: Sequence[RawValue]) -> str:
    """The one text that a signal carries; empty for anything else."""
    if len(arguments) != 1:
        return ""
    try:
        found: object = workflow.payload_converter().from_payload(arguments[0].payload)
    except (LookupError, RuntimeError, ValueError):
        return ""
    return found if isinstance(found, str) else ""
