"""The composition root: workers, and the embedded server for development."""

from sojourn.activities.mcp.option import McpOptions
from sojourn.worker.deployment import Versioning, default_build_id, deployment_config
from sojourn.worker.option import WorkerOptions
from sojourn.worker.server import EmbeddedServer, embedded_server, temporal_binary
from sojourn.worker.telemetry import Telemetry, open_telemetry
from sojourn.worker.worker import HookSource, SojournWorker, ToolSource

__all__ = [
    "EmbeddedServer",
    "HookSource",
    "McpOptions",
    "SojournWorker",
    "Telemetry",
    "ToolSource",
    "Versioning",
    "WorkerOptions",
    "default_build_id",
    "deployment_config",
    "embedded_server",
    "open_telemetry",
    "temporal_binary",
]
