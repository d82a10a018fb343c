"""The composition root: builds a Temporal worker out of workflows, activities and the user's tools."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from types import ModuleType, TracebackType
from typing import Any, Self

import temporalio.worker
from temporalio.client import Client
from temporalio.worker import (
    PollerBehavior,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    UnsandboxedWorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from sojourn.activities.attachment import Attachments
from sojourn.activities.builtin import built_in_tools
from sojourn.activities.catalogue import Catalogue
from sojourn.activities.compaction import ContextCompaction
from sojourn.activities.credential import CredentialCalls
from sojourn.activities.deployment_run import DeploymentRuns
from sojourn.activities.envelope import Envelope
from sojourn.activities.export import Export
from sojourn.activities.hook import Hooks, HookSource, hooks_beside
from sojourn.activities.hook_chain import SessionHooks
from sojourn.activities.mcp.gate import McpGate
from sojourn.activities.model_step import ModelStep
from sojourn.activities.placement import Placement
from sojourn.activities.policy import WorkspacePolicies
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.tool import Function, Tool, Toolbox
from sojourn.activities.tool_call import ToolCall
from sojourn.activities.turn_notice import TurnNotice
from sojourn.activities.vault import VaultReader
from sojourn.activities.web import web_tools
from sojourn.activities.workspace import Harvest, Preparation
from sojourn.testing.scripted import Script, ScriptedModel
from sojourn.types.named_store import require_store
from sojourn.types.payload import store_of
from sojourn.types.workspace import sandbox_queue
from sojourn.worker.option import WorkerOptions
from sojourn.worker.own_queue import OwnQueue
from sojourn.worker.router import ModelRouter
from sojourn.worker.station import Station, open_station
from sojourn.workflows import (
    ENTITIES,
    VERSIONED_ENTITIES,
    CheckSandboxWorkflow,
    DeploymentRunWorkflow,
    ExportWorkflow,
    SessionWorkflow,
    WorkWorkflow,
)

logger = logging.getLogger("sojourn.worker")

__all__ = ["HookSource", "SojournWorker", "ToolSource", "WorkerOptions"]

ToolSource = Tool | Function | ModuleType | str


_RESTRICTIONS = SandboxRestrictions.default.with_passthrough_modules("pydantic", "pydantic_core", "sojourn.types")
"""Our wire types hold nothing that a replay could change; read anew in every sandbox they would be other classes."""


class SojournWorker:
    """A worker for sessions and agents. Use it as a context manager, or `run` it until cancelled."""

    def __init__(
        self,
        client: Client,
        *,
        tools: Iterable[ToolSource] = (),
        hooks: Iterable[HookSource] = (),
        scripts: Mapping[str, Script] | None = None,
        options: WorkerOptions | None = None,
        built_in: Toolbox | None = None,
        preparations: Sequence[Preparation] = (),
        harvests: Sequence[Harvest] = (),
    ) -> None:
        """Build the worker; nothing is polled before it is entered or run.

        Args:
            client: Connected with `sojourn.types.data_converter`.
            tools: Tools, functions, modules or import paths of modules; hooks in the modules count too.
            hooks: Hooks, modules or import paths of modules.
            scripts: Scripted models by name, for agents with ``scripted:NAME``.
            options: Sizes and limits.
            built_in: What is offered as the built-in tools; by default those of sojourn.
            preparations: What else is put into workspaces when they are opened.
            harvests: What else is taken out of them after a turn.

        Raises:
            InvalidRequestError: Tools or hooks cannot be imported or share a name.
        """
        self.options = options or WorkerOptions()
        sources = list(tools)
        self.tools = Toolbox.of(sources)
        self.hooks = Hooks.of([*hooks_beside(sources), *hooks])
        self._client = client
        self._threads = ThreadPoolExecutor(self.options.max_tool_threads, thread_name_prefix="sojourn-tool")
        # Of their own, so that a hook that never ends takes no thread from the tools.
        self._hook_threads = ThreadPoolExecutor(16, thread_name_prefix="sojourn-hook")
        self._session_hooks = SessionHooks(self.hooks, self._hook_threads)
        self._router = ModelRouter(scripted=ScriptedModel(scripts))
        self._catalogue = Catalogue(self.tools, _built_in_tools() if built_in is None else built_in)
        self._preparations, self._harvests = preparations, harvests
        self._vaults = VaultReader(client, sealer=self.options.sealer)
        self._mcp: McpGate | None = None
        self._alone: OwnQueue | None = None
        self._station: Station | None = None
        self._serving = AsyncExitStack()

    @property
    def own_queue(self) -> str:
        """The task queue of this worker alone.

        Raises:
            RuntimeError: The worker has not been entered.
        """
        return self._entered.queue

    @property
    def sandbox(self) -> str | None:
        """The name of the worker's sandbox, if it has one.

        Raises:
            RuntimeError: The worker has not been entered.
        """
        workspaces = self._entered.workspaces
        return workspaces.equipment.sandbox.name if workspaces else None

    @property
    def no_sandbox(self) -> str:
        """Why the worker has no sandbox although it was to have one; empty as a rule."""
        return self._entered.lacking

    @property
    def _entered(self) -> Station:
        if self._station is None:
            raise RuntimeError("the worker has not been entered; use it as a context manager")
        return self._station

    def _workers(self, station: Station) -> list[temporalio.worker.Worker]:
        """The worker of the shared task queue, and where there is a sandbox that of its own."""
        client, options = self._client, self.options
        logs, envelope = SessionLogs(client), Envelope(client)
        catalogue, router, workspaces = self._catalogue, self._router, station.workspaces
        step = ModelStep(
            logs=logs,
            tools=catalogue,
            model=router,
            policy=options.permissions,
            envelope=envelope,
            attachments=Attachments(store_of(client)),
            policies=WorkspacePolicies(client),
            hooks=self._session_hooks,
        )
        # Served from when an MCP server first asks somebody something.
        alone = OwnQueue(
            client,
            task_queue=options.task_queue,
            activities=lambda: (call.run_tool, mcp.abandon_mcp_call),
            grace=options.graceful_shutdown,
        )
        reached = options.mcp if options.mcp.credentials else replace(options.mcp, credentials=self._vaults)
        mcp = self._mcp = McpGate(logs=logs, envelope=envelope, options=reached, own_queue=alone.name)
        call = ToolCall(
            logs=logs,
            tools=catalogue,
            threads=self._threads,
            envelope=envelope,
            workspaces=workspaces,
            hooks=self._session_hooks,
            mcp=mcp,
        )
        self._alone = alone
        runs = DeploymentRuns(client)
        placement = Placement(client, options.task_queue, workspaces, station.checkpoints)
        credentials = CredentialCalls(client, sealer=options.sealer)
        shared = temporalio.worker.Worker(
            client,
            workflows=[
                SessionWorkflow,
                *(VERSIONED_ENTITIES if _versioned(options) else ENTITIES),
                ExportWorkflow,
                DeploymentRunWorkflow,
                WorkWorkflow,
                CheckSandboxWorkflow,
            ],
            activities=[
                step.call_model,
                call.run_tool,
                ContextCompaction(logs=logs, tools=catalogue, model=router).compact_context,
                TurnNotice(self._session_hooks).notify_turn,
                mcp.list_mcp_tools,
                Export(client).export_runs,
                runs.check_deployment,
                runs.pause_deployment,
                placement.open_workspace,
                placement.check_sandbox,
                credentials.fetch_token,
                credentials.probe_credential,
                credentials.reseal_secrets,
            ],
            **_tuning(options),
        )
        if workspaces is None:
            return [shared]
        own = temporalio.worker.Worker(
            client,
            activities=[call.run_tool, placement.open_workspace, placement.checkpoint_workspace],
            **_tuning_of_own(options, station.queue, pollers=PollerBehaviorAutoscaling(initial=2, maximum=20)),
        )
        with_sandbox = temporalio.worker.Worker(
            client,
            activities=[placement.open_workspace, placement.check_sandbox],
            **_tuning_of_own(
                options, sandbox_queue(options.task_queue), pollers=PollerBehaviorSimpleMaximum(maximum=1)
            ),
        )
        return [own, with_sandbox, shared]

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
        async with AsyncExitStack() as stack:
            self._station = await stack.enter_async_context(
                open_station(
                    self._client,
                    self.options,
                    vaults=self._vaults,
                    preparations=self._preparations,
                    harvests=self._harvests,
                )
            )
            for worker in self._workers(self._station):
                await worker.__aenter__()
                stack.push_async_exit(worker)
            self._serving = stack.pop_all()
        names = ", ".join(self.tools.names) or "none"
        logger.info("worker started; tools: %s; sandbox: %s", names, self.sandbox or "none", extra=self._ids())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grace = self.options.graceful_shutdown.total_seconds()
        logger.info("worker draining; running work gets %g s", grace, extra=self._ids())
        try:
            await asyncio.gather(
                self._serving.__aexit__(kind, error, trace), *([self._alone.close()] if self._alone else [])
            )
        finally:
            # Threads of cancelled sync tools cannot be stopped; they must not hold the process.
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._hook_threads.shutdown(wait=False, cancel_futures=True)
        if self._mcp is not None:
            await self._mcp.close()
        await self._router.aclose()
        logger.info("worker stopped", extra=self._ids())

    def _ids(self) -> dict[str, str]:
        return {"task_queue": self.options.task_queue}


def _built_in_tools() -> Toolbox:
    workspace = built_in_tools()
    in_workspace = [tool for name in workspace.names if (tool := workspace.get(name)) is not None]
    return Toolbox([*in_workspace, *web_tools()])


def _tuning_of_own(options: WorkerOptions, queue: str, *, pollers: PollerBehavior) -> dict[str, Any]:
    """The same for queues of activities that are never versioned (temporal.md, pitfall 25)."""
    kept = (
        "identity",
        "max_concurrent_activities",
        "graceful_shutdown_timeout",
        "max_heartbeat_throttle_interval",
        "default_heartbeat_throttle_interval",
    )
    tuning = _tuning(options)
    return {name: tuning[name] for name in kept} | {"task_queue": queue, "activity_task_poller_behavior": pollers}


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
