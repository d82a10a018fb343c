"""The composition root: builds a Temporal worker out of workflows, activities and the user's tools."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType, TracebackType
from typing import Any, Self

import temporalio.worker
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from sojourn.activities.catalogue import Catalogue
from sojourn.activities.compaction import ContextCompaction
from sojourn.activities.deployment_run import DeploymentRuns
from sojourn.activities.envelope import Envelope
from sojourn.activities.export import Export
from sojourn.activities.mcp.gate import McpGate
from sojourn.activities.mcp.option import McpOptions
from sojourn.activities.model_step import ModelStep
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.tool import Function, Tool, Toolbox
from sojourn.activities.tool_call import ToolCall
from sojourn.testing.scripted import Script, ScriptedModel
from sojourn.types.name import TASK_QUEUE
from sojourn.types.named_store import require_store
from sojourn.types.permission import PermissionPolicy
from sojourn.worker.own_queue import OwnQueue
from sojourn.worker.router import ModelRouter
from sojourn.workflows import (
    ENTITIES,
    VERSIONED_ENTITIES,
    DeploymentRunWorkflow,
    ExportWorkflow,
    SessionWorkflow,
)

logger = logging.getLogger("sojourn.worker")

ToolSource = Tool | Function | ModuleType | str


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker behaves. The defaults suit a laptop and a small server."""

    task_queue: str = TASK_QUEUE
    permissions: PermissionPolicy = field(default_factory=PermissionPolicy)
    """Rules for all sessions that this worker serves, below those of agent and session."""
    max_concurrent_activities: int = 500
    """Model and tool calls at the same time. A waiting model call costs little more than its socket."""
    max_concurrent_workflow_tasks: int = 100
    mcp: McpOptions = field(default_factory=McpOptions)
    """How MCP servers are reached."""
    max_cached_sessions: int = 1000
    """Sessions whose workflow stays in memory (50 to 100 KB each); one that was dropped is replayed when it wakes."""
    max_tool_threads: int = 64
    """Sync tools at the same time."""
    graceful_shutdown: timedelta = timedelta(seconds=10)
    """How long running activities may go on after a stop; then they are cancelled and attempted elsewhere."""
    identity: str | None = None
    """How the worker shows in the Web UI; by default process id and host."""
    deployment: WorkerDeploymentConfig | None = None
    """Temporal's worker versioning (`deployment_config` makes it); ``None`` leaves it off."""
    sandboxed: bool = False
    """Run workflow code in Temporal's sandbox. Ours is linted and replay-tested, and 1.45 times cheaper without."""


_RESTRICTIONS = SandboxRestrictions.default.with_passthrough_modules("pydantic", "pydantic_core", "sojourn.types")
"""Our wire types hold nothing that a replay could change; read anew in every sandbox they would be other classes."""


class SojournWorker:
    """A worker for sessions and agents. Use it as a context manager, or `run` it until cancelled."""

    def __init__(
        self,
        client: Client,
        *,
        tools: Iterable[ToolSource] = (),
        scripts: Mapping[str, Script] | None = None,
        options: WorkerOptions | None = None,
    ) -> None:
        """Build the worker; nothing is polled before it is entered or run.

        Args:
            client: Connected with `sojourn.types.data_converter`.
            tools: Tools, functions, modules or import paths of modules.
            scripts: Scripted models by name, for agents with ``scripted:NAME``.
            options: Sizes and limits.

        Raises:
            InvalidRequestError: Tools cannot be imported or share a name.
        """
        self.options = options or WorkerOptions()
        self.tools = Toolbox.of(tools)
        self._client = client
        self._threads = ThreadPoolExecutor(self.options.max_tool_threads, thread_name_prefix="sojourn-tool")
        self._router = ModelRouter(scripted=ScriptedModel(scripts))
        logs, envelope = SessionLogs(client), Envelope(client)
        catalogue = Catalogue(self.tools)
        step = ModelStep(
            logs=logs, tools=catalogue, model=self._router, policy=self.options.permissions, envelope=envelope
        )
        compaction = ContextCompaction(logs=logs, tools=catalogue, model=self._router)
        self._own_queue = OwnQueue(
            client,
            task_queue=self.options.task_queue,
            activities=lambda: (call.run_tool, self._mcp.abandon_mcp_call),
            grace=self.options.graceful_shutdown,
        )
        self._mcp = McpGate(logs=logs, envelope=envelope, options=self.options.mcp, own_queue=self._own_queue.name)
        call = ToolCall(logs=logs, tools=catalogue, threads=self._threads, envelope=envelope, mcp=self._mcp)
        runs = DeploymentRuns(client)
        self._worker = temporalio.worker.Worker(
            client,
            workflows=[
                SessionWorkflow,
                *(VERSIONED_ENTITIES if _versioned(self.options) else ENTITIES),
                ExportWorkflow,
                DeploymentRunWorkflow,
            ],
            activities=[
                step.call_model,
                call.run_tool,
                compaction.compact_context,
                self._mcp.list_mcp_tools,
                Export(client).export_runs,
                runs.check_deployment,
                runs.pause_deployment,
            ],
            **_tuning(self.options),
        )

    async def run(self) -> None:
        """Serve until cancelled, then stop in order: no new work, running work for a while, connections.

        Raises:
            ServerNotReadyError: The namespace names an object store, and the client has none or another one.
            StoreUnavailableError: The object store cannot be reached or refuses.
        """
        async with self:
            await asyncio.Event().wait()

    async def __aenter__(self) -> Self:
        await require_store(self._client)
        await self._worker.__aenter__()
        logger.info("worker started; tools: %s", ", ".join(self.tools.names) or "none", extra=self._ids())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grace = self.options.graceful_shutdown.total_seconds()
        logger.info("worker draining; running work gets %g s", grace, extra=self._ids())
        try:
            await asyncio.gather(self._worker.__aexit__(kind, error, trace), self._own_queue.close())
        finally:
            # Threads of cancelled sync tools cannot be stopped; they must not hold the process.
            self._threads.shutdown(wait=False, cancel_futures=True)
        await self._mcp.close()
        await self._router.aclose()
        logger.info("worker stopped", extra=self._ids())

    def _ids(self) -> dict[str, str]:
        return {"task_queue": self.options.task_queue}


def _versioned(options: WorkerOptions) -> bool:
    return options.deployment is not None and options.deployment.use_worker_versioning


def _tuning(options: WorkerOptions) -> dict[str, Any]:
    """Settings of the Temporal worker with their reasons in temporal.md §2 and §4.11."""
    runner = SandboxedWorkflowRunner(_RESTRICTIONS) if options.sandboxed else UnsandboxedWorkflowRunner()
    versioning = {} if options.deployment is None else {"deployment_config": options.deployment}
    return {
        "task_queue": options.task_queue,
        "identity": options.identity,
        "max_cached_workflows": options.max_cached_sessions,
        "max_concurrent_activities": options.max_concurrent_activities,
        "max_concurrent_workflow_tasks": options.max_concurrent_workflow_tasks,
        "graceful_shutdown_timeout": options.graceful_shutdown,
        # The default of five pollers starves new sessions while many are busy.
        "workflow_task_poller_behavior": PollerBehaviorAutoscaling(initial=5, maximum=50),
        "activity_task_poller_behavior": PollerBehaviorAutoscaling(initial=5, maximum=50),
        # After a crash the cached sessions of the dead worker wait this long before another may take them.
        "sticky_queue_schedule_to_start_timeout": timedelta(seconds=1),
        # Cancellations and previews travel with heartbeats.
        "max_heartbeat_throttle_interval": timedelta(milliseconds=100),
        "default_heartbeat_throttle_interval": timedelta(milliseconds=100),
        "workflow_runner": runner,
        **versioning,
    }
