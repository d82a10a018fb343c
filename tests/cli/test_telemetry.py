"""`sojourn worker` as a process that sends to a collector, and one that Prometheus reads."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

from sojourn.client import AgentRuntime
from sojourn.types import Owner
from sojourn.worker.port import free_port


@dataclass
class Collector:
    """A collector on loopback that keeps what it gets."""

    address: str = ""
    traces: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)

    def spans(self) -> dict[str, dict[str, str]]:
        """Attributes of the spans by name."""
        return {
            span.name: {each.key: each.value.string_value for each in span.attributes}
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def services(self) -> set[str]:
        found = [each.resource for request in self.traces for each in request.resource_spans]
        found += [each.resource for request in self.metrics for each in request.resource_metrics]
        return {
            each.value.string_value for resource in found for each in resource.attributes if each.key == "service.name"
        }

    def names(self) -> set[str]:
        return {
            metric.name
            for request in self.metrics
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
async def collector() -> AsyncGenerator[Collector, None]:
    kept = Collector()

    class Traces(trace_grpc.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:
            kept.traces.append(request)
            return trace_pb.ExportTraceServiceResponse()

    class Metrics(metrics_grpc.MetricsServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:
            kept.metrics.append(request)
            return metrics_pb.ExportMetricsServiceResponse()

    server = grpc.aio.server()
    trace_grpc.add_TraceServiceServicer_to_server(Traces(), server)  # type: ignore[no-untyped-call]
    metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)  # type: ignore[no-untyped-call]
    kept.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield kept
    await server.stop(None)


async def talk(runtime: AgentRuntime, agents: dict[str, str], queue: str) -> str:
    """One turn on the worker of a task queue; the session's id."""
    mine = AgentRuntime(runtime.client, owner=Owner("cli", "ada"), task_queue=queue)
    session = await mine.start_session(agents["echo"])
    await session.send_and_wait("hello")
    await mine.close()
    return session.id


async def test_worker_sends_traces_and_metrics_as_the_variables_say(
    start: Any, runtime: AgentRuntime, agents: dict[str, str], environment: dict[str, str], collector: Collector
) -> None:
    environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}",
        "OTEL_SERVICE_NAME": "my-agents",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }
    queue = "test-cli-otlp"
    async with start("worker", "--task-queue", queue, "--log-format", "json") as process:
        await process.stdout.readline()
        session = await talk(runtime, agents, queue)
        async with asyncio.timeout(60):
            while not {"sojourn.turns", "gen_ai.client.token.usage", "temporal_request"} <= collector.names():  # noqa: ASYNC110 (the collector does not tell)
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
    spans = collector.spans()

    assert process.returncode == 0, err
    assert spans.keys() == {"invoke_agent echo", "chat echo"}
    assert all(attributes["gen_ai.conversation.id"] == session for attributes in spans.values())
    assert collector.services() == {"my-agents"}
    assert "gen_ai.client.operation.duration" in collector.names()
    assert b"hello" not in b"".join(request.SerializeToString() for request in collector.traces)


async def test_worker_without_variables_sends_nothing(
    start: Any, runtime: AgentRuntime, agents: dict[str, str], environment: dict[str, str], collector: Collector
) -> None:
    environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}", "OTEL_SDK_DISABLED": "true"}
    queue = "test-cli-otlp-off"
    async with start("worker", "--task-queue", queue) as process:
        await process.stdout.readline()
        await talk(runtime, agents, queue)
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert process.returncode == 0
    assert (collector.traces, collector.metrics) == ([], [])


async def test_prometheus_finds_metrics(start: Any, runtime: AgentRuntime, agents: dict[str, str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    queue = "test-cli-prometheus"
    async with start("worker", "--task-queue", queue, "--metrics", address, "--json") as process:
        await process.stdout.readline()
        await talk(runtime, agents, queue)
        page = await asyncio.to_thread(lambda: urlopen(f"http://{address}/metrics").read().decode())
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert process.returncode == 0
    (turns,) = re.findall(r"^sojourn_turns_total\{(.*)\} 1$", page, re.MULTILINE)
    assert 'sojourn_stop_reason="end_turn"' in turns
    assert re.search(r'^gen_ai_client_token_usage_sum\{.*gen_ai_token_type="input".*\} 10$', page, re.MULTILINE)
    assert "temporal_workflow_completed" in page or "temporal_request" in page


async def test_wrong_metrics_address_is_refused(sojourn: Any) -> None:
    ended = await sojourn("worker", "--metrics", "nowhere", "--json")

    assert ended.code == 2
    assert "metrics" in ended.error["message"]


async def test_wrong_exporter_is_refused(sojourn: Any) -> None:
    ended = await sojourn("worker", "--json", OTEL_TRACES_EXPORTER="zipkin")

    assert ended.code == 2
    assert json.loads(ended.err)["error"]["message"].startswith("OTEL_TRACES_EXPORTER is 'zipkin'")
