"""OpenTelemetry for a process, as its standard variables ``OTEL_…`` say; and metrics for Prometheus.

Traces go through Temporal's own plugin and the SDK of OpenTelemetry. Metrics, ours and those of Temporal's SDK, go
through the one meter of Temporal's SDK: it drops what workflow code counts while it is replayed.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

from temporalio.client import Plugin
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    OpenTelemetryConfig,
    OpenTelemetryMetricTemporality,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from sojourn.types.error import InvalidRequestError
from sojourn.types.telemetry import HISTOGRAM_BUCKETS
from sojourn.worker.prometheus import PrometheusRuntime

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter
    from temporalio.contrib.opentelemetry import ReplaySafeTracerProvider

logger = logging.getLogger("sojourn.worker")

SERVICE_NAME = "sojourn-worker"
METRIC_INTERVAL = timedelta(seconds=10)
"""How often metrics are sent unless OTEL_METRIC_EXPORT_INTERVAL says otherwise; at a stop the last part is lost."""

_NONE = ("none", "")


@dataclass(frozen=True)
class Telemetry:
    """What a Temporal client is connected with to be observed; a worker takes both over from its client."""

    plugins: tuple[Plugin, ...] = ()
    runtime: Runtime | None = None
    """``None`` where no metrics are wanted: the SDK's default does."""


@asynccontextmanager
async def open_telemetry(*, prometheus: str | None = None, core_level: str = "WARN") -> AsyncGenerator[Telemetry, None]:
    """Set up what the environment asks for while the block runs; what is left to export goes out at its end.

    Traces are on with ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``), or ``OTEL_TRACES_EXPORTER=console``;
    metrics with the endpoint (or ``…_METRICS_ENDPOINT``). ``OTEL_TRACES_EXPORTER=none``, ``OTEL_METRICS_EXPORTER=none``
    and ``OTEL_SDK_DISABLED=true`` switch off. Service name, resource, headers, sampler, batches have their variables.

    Args:
        prometheus: ``host:port`` on which Prometheus finds ``/metrics``; metrics then go there and not to OTLP.
        core_level: What of the log of Temporal's SDK reaches Python's logger ``temporalio.core``.

    Raises:
        InvalidRequestError: A variable or the address cannot be used, or another tracer is set up in the process.
    """
    provider = _tracer_provider()
    try:
        yield Telemetry(_plugins(provider), _runtime(prometheus, core_level))
    finally:
        if provider is not None:
            # Its exporter blocks, at most as long as OTEL_EXPORTER_OTLP_TIMEOUT.
            await asyncio.to_thread(provider.shutdown)


def _plugins(provider: "ReplaySafeTracerProvider | None") -> tuple[Plugin, ...]:
    if provider is None:
        return ()
    from temporalio.contrib.opentelemetry import OpenTelemetryPlugin

    return (OpenTelemetryPlugin(),)


# --- traces ----------------------------------------------------------------------------------------------------


def _tracer_provider() -> "ReplaySafeTracerProvider | None":
    wanted = _traces_exporter()
    if wanted is None:
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from temporalio.contrib.opentelemetry import create_tracer_provider
    except ImportError:
        logger.warning('OTEL_… asks for traces, but the SDK is not installed; run pip install "sojourn[otel]"')
        return None
    provider = create_tracer_provider(resource=_resource())
    trace.set_tracer_provider(provider)
    if trace.get_tracer_provider() is not provider:
        raise InvalidRequestError("another tracer provider is set up in this process; leave it out, or unset OTEL_…")
    provider.add_span_processor(BatchSpanProcessor(_span_exporter(wanted)))
    return provider


def _traces_exporter() -> str | None:
    if _disabled():
        return None
    named = os.environ.get("OTEL_TRACES_EXPORTER")
    if named is not None:
        return None if named in _NONE else named
    return "otlp" if _endpoint("TRACES") is not None else None


def _span_exporter(name: str) -> "SpanExporter":
    if name == "console":
        import sys

        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise InvalidRequestError(f"OTEL_TRACES_EXPORTER is {name!r}; use otlp, console or none")
    if _is_http("TRACES"):
        raise InvalidRequestError("traces go out by grpc only; set OTEL_EXPORTER_OTLP_PROTOCOL=grpc and its port, 4317")
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _resource() -> "Resource":
    from opentelemetry.sdk.resources import Resource

    # What is given here beats the variables.
    given = {} if "service.name" in _resource_attributes() else {"service.name": SERVICE_NAME}
    return Resource.create({**given})


def _resource_attributes() -> dict[str, str]:
    found = _pairs(os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    name = os.environ.get("OTEL_SERVICE_NAME")
    return {**found, "service.name": name} if name else found


# --- metrics ---------------------------------------------------------------------------------------------------


def _runtime(prometheus: str | None, core_level: str) -> Runtime:
    level = TelemetryFilter(core_level=core_level, other_level="ERROR")
    forwarding = LogForwardingConfig(
        logging.getLogger("temporalio.core"), append_target_to_name=False, append_log_fields_to_message=False
    )
    core_log = LoggingConfig(filter=level, forwarding=forwarding)
    try:
        if prometheus is not None:
            return PrometheusRuntime(prometheus, logging=core_log)
        return Runtime(
            telemetry=TelemetryConfig(
                logging=core_log,
                metrics=_otlp_metrics(),
                attach_service_name=False,
                global_tags={"service.name": SERVICE_NAME} | _resource_attributes(),
            )
        )
    except (RuntimeError, ValueError) as error:
        raise InvalidRequestError(f"metrics cannot be set up: {error}") from None


def _otlp_metrics() -> OpenTelemetryConfig | None:
    endpoint = _endpoint("METRICS")
    if _disabled() or endpoint is None or os.environ.get("OTEL_METRICS_EXPORTER", "otlp") != "otlp":
        return None
    interval = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    delta = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").lower() == "delta"
    temporality = OpenTelemetryMetricTemporality.DELTA if delta else OpenTelemetryMetricTemporality.CUMULATIVE
    return OpenTelemetryConfig(
        endpoint,
        headers=_headers("METRICS"),
        metric_periodicity=timedelta(milliseconds=int(interval)) if interval.isdigit() else METRIC_INTERVAL,
        metric_temporality=temporality,
        durations_as_seconds=True,
        http=_is_http("METRICS"),
        histogram_bucket_overrides=HISTOGRAM_BUCKETS,
    )


# --- variables -------------------------------------------------------------------------------------------------


def _disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"


def _endpoint(signal: str) -> str | None:
    if own := os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"):
        return own
    shared = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if shared and _is_http(signal):
        return f"{shared.rstrip('/')}/v1/{signal.lower()}"
    return shared or None


def _is_http(signal: str) -> bool:
    shared = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", shared).startswith("http")


def _headers(signal: str) -> Mapping[str, str]:
    shared = os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    return _pairs(os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_HEADERS", shared))


def _pairs(text: str) -> dict[str, str]:
    parts = (part.partition("=") for part in text.split(",") if "=" in part)
    return {key.strip(): unquote(value.strip()) for key, _, value in parts}
