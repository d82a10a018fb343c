"""The caller's span, sent along with what the SDK's interceptors do not see: our signals are made by hand."""

from temporalio.api.common.v1 import Header
from temporalio.client import Client
from temporalio.converter import PayloadConverter

_HEADER = "_tracer-data"
"""Where Temporal's OpenTelemetry plugin looks."""


class TraceHeader:
    """Makes the header for one client. Without the plugin it is always empty, and OpenTelemetry is not imported."""

    def __init__(self, client: Client) -> None:
        self._on = any(plugin.name() == "OpenTelemetryPlugin" for plugin in client.config()["plugins"])

    def header(self) -> Header | None:
        """The caller's current span; ``None`` if there is none."""
        if not self._on:
            return None
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        if not carrier:
            return None
        return Header(fields={_HEADER: PayloadConverter.default.to_payloads([carrier])[0]})
