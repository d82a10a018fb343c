"""Sessions whose spans are kept in memory, and whose metrics are, each on a connection of its own."""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.client import Client
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, create_tracer_provider
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from sojourn.client import connect_client
from sojourn.worker import EmbeddedServer

if TYPE_CHECKING:
    from tests.conftest import Stage


@dataclass
class Observed:
    """What a stage's sessions have told."""

    stage: "Stage"
    spans: InMemorySpanExporter
    buffer: MetricBuffer
    _updates: list[tuple[str, float, dict[str, Any]]] = field(default_factory=list)

    def named(self, prefix: str) -> list[ReadableSpan]:
        """The spans whose names begin so, by their starts."""
        found = [span for span in self.mine() if span.name.startswith(prefix)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def mine(self) -> list[ReadableSpan]:
        """The spans of this stage's sessions."""
        workspace = self.stage.owner.workspace
        return [
            span
            for span in self.spans.get_finished_spans()
            if (span.attributes or {}).get("sojourn.workspace") == workspace
        ]

    def counted(self, metric: str, *labels: str, each: bool = False) -> Counter[tuple[Any, ...]]:
        """The sum of a metric's updates by these labels, or with ``each`` their number, on this stage's task queue."""
        self._updates += [
            (update.metric.name, update.value, dict(update.attributes)) for update in self.buffer.retrieve_updates()
        ]
        found: Counter[tuple[Any, ...]] = Counter()
        for name, value, attributes in self._updates:
            if name == metric and attributes.get("task_queue") == self.stage.task_queue:
                found[tuple(attributes.get(label) for label in labels)] += 1 if each else int(value)
        return found


@pytest.fixture(scope="session")
def exporter() -> Generator[InMemorySpanExporter, None, None]:
    """The process's one tracer provider; it cannot be taken away again."""
    provider = create_tracer_provider()
    trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    provider.shutdown()


@pytest.fixture(scope="session")
def buffer() -> MetricBuffer:
    return MetricBuffer(1_000_000)


@pytest.fixture(scope="session")
async def observed_client(server: EmbeddedServer, exporter: InMemorySpanExporter, buffer: MetricBuffer) -> Client:
    runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer, logging=None))
    return await connect_client(server.address, plugins=[OpenTelemetryPlugin()], sdk_runtime=runtime)


@pytest.fixture
async def observed(
    stage: "Stage", observed_client: Client, exporter: InMemorySpanExporter, buffer: MetricBuffer
) -> Observed:
    """A stage whose client and workers are observed."""
    stage.client = observed_client
    stage.runtime = stage.another_runtime()
    exporter.clear()
    return Observed(stage, exporter, buffer)
