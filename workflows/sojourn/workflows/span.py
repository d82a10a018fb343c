"""The turn as a span of OpenTelemetry. Imported only where its SDK is installed.

Safe under replay by the tracer of Temporal's plugin: ids come from the workflow's own randomness, a span that ends
while history is replayed is not exported again, and one whose worker died is exported by the worker that ends it.
"""

from collections.abc import Mapping

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode
from temporalio.contrib.opentelemetry import ReplaySafeTracerProvider

from sojourn.types.telemetry import ERROR_TYPE, TRACER

Attributes = Mapping[str, str | int]


class TurnSpan:
    """A span that is the current one of the coroutine that begins it, until it ends."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token = context.attach(trace.set_span_in_context(span))

    @staticmethod
    def sender() -> Context | None:
        """The span of whoever sent the message that is being handled; ``None`` if it came without one."""
        if not isinstance(trace.get_tracer_provider(), ReplaySafeTracerProvider):
            return None
        here = context.get_current()
        return here if trace.get_current_span(here).get_span_context().is_valid else None

    @classmethod
    def begin(cls, name: str, attributes: Attributes, *, caller: Context | None, continues: bool) -> "TurnSpan | None":
        """Begin a turn's span.

        Args:
            name: Its name.
            attributes: What is known of it.
            caller: What the turn's message brought along; the parent.
            continues: Whether the turn began in the run before, whose span becomes the parent.

        Returns:
            ``None`` where tracing is off, or a tracer is on that would count replays.
        """
        provider = trace.get_tracer_provider()
        if not isinstance(provider, ReplaySafeTracerProvider):
            return None
        run = context.get_current()
        parent = run if continues else caller or Context()
        tracer = provider.get_tracer(TRACER)
        return cls(tracer.start_span(name, parent, attributes=attributes, links=_links(run, parent)))

    def end(self, attributes: Attributes, *, error_type: str | None = None) -> None:
        """End the span; nothing is current any more."""
        self.suspend(attributes, error_type=error_type)
        context.detach(self._token)

    def suspend(self, attributes: Attributes, *, error_type: str | None = None) -> None:
        """End the span and leave it current, so that the next run of the workflow becomes its child."""
        self._span.set_attributes(dict(attributes))
        if error_type is not None:
            self._span.set_attribute(ERROR_TYPE, error_type)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _links(run: Context, parent: Context) -> list[Link]:
    """A link to what the run was started by, so that the turns of a session, a trace each, can be found together."""
    started, above = (trace.get_current_span(each).get_span_context() for each in (run, parent))
    return [Link(started)] if started.is_valid and started.span_id != above.span_id else []
