"""The composition root: workers, and the embedded server for development."""

from sojourn.worker.server import EmbeddedServer, embedded_server, temporal_binary
from sojourn.worker.worker import SojournWorker, ToolSource, WorkerOptions

__all__ = ["EmbeddedServer", "SojournWorker", "ToolSource", "WorkerOptions", "embedded_server", "temporal_binary"]
