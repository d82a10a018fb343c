"""Death at a named step: a Temporal plugin by which a worker ends itself when the supervisor has armed the step.

To arm a step is to put a file into a folder; the first worker that gets there takes the file and dies of it.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from temporalio import activity
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import SerializationContext, StorageDriverStoreContext
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)
from temporalio.workflow import _Definition
from tests.chaos.journal import Attempt, Death, Journal
from tests.chaos.plan import Signal
from tests.chaos.script import kind

from sojourn.types.record import RunToolInput

SOON = 0.008
"""Seconds after which the server has probably heard of what was just finished."""


class Armory:
    """Where steps are armed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "armed"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._deaths = Journal(folder / "deaths.jsonl")

    # --- for the supervisor ----------------------------------------------------------------------------------------

    def arm(self, number: int, point: str, by: Signal) -> None:
        (self._folder / f"{number:05d}_{point}_{by}").touch()

    def armed(self) -> list[str]:
        return sorted(entry.name for entry in self._folder.iterdir())

    def disarm(self, name: str) -> bool:
        """Take one back. False if it has gone off."""
        try:
            (self._folder / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def note(self, death: Death) -> None:
        self._deaths.write(death)

    # --- for a worker ----------------------------------------------------------------------------------------------

    def strike(self, point: str, session: str) -> None:
        """Die here if the step is armed. With SIGTERM the process lives on for a while, in order."""
        if by := self.taken(point):
            self.die(point, session, by)

    def taken(self, point: str) -> Signal | None:
        """Take what the step is armed with."""
        for name in self.armed():
            _, found, by = name.split("_")
            if found == point and self.disarm(name):
                return "KILL" if by == "KILL" else "TERM"
        return None

    def die(self, point: str, session: str, by: Signal) -> None:
        self.note(Death(role="worker", point=point, signal=by, pid=os.getpid(), at=time.time(), session=session))
        os.kill(os.getpid(), signal.SIGKILL if by == "KILL" else signal.SIGTERM)


def plugin(folder: Path, armory: Armory) -> SimplePlugin:
    """What a worker's client is given."""
    loop = asyncio.get_running_loop()
    attempts = Journal(folder / "attempts" / f"{os.getpid()}.jsonl")
    return SimplePlugin(
        "chaos",
        interceptors=[_Activities(armory, attempts)],
        workflow_runner=lambda runner: _Runner(runner or UnsandboxedWorkflowRunner(), armory, loop),
    )


# --- activities ----------------------------------------------------------------------------------------------------


class _Activities(Interceptor):
    def __init__(self, armory: Armory, attempts: Journal) -> None:
        self._armory = armory
        self._attempts = attempts

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self._armory, self._attempts)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, armory: Armory, attempts: Journal) -> None:
        super().__init__(next)
        self._armory = armory
        self._attempts = attempts
        self._outbound: _Outbound | None = None

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._outbound = _Outbound(outbound, self._armory)
        super().init(self._outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        name, session = _kind(input), _session()
        assert self._outbound is not None
        self._outbound.kind = name
        self._note(begun=True)
        self._armory.strike(f"{name}.begin", session)
        if name == "export":
            self._later("export.run", session)
        result: object = await super().execute_activity(input)
        self._armory.strike(f"{name}.end", session)
        self._note(begun=False)
        self._later(f"{name}.reported", session)
        return result

    def _later(self, point: str, session: str) -> None:
        if by := self._armory.taken(point):
            asyncio.get_running_loop().call_later(SOON, self._armory.die, point, session, by)

    def _note(self, *, begun: bool) -> None:
        info = activity.info()
        self._attempts.write(
            Attempt(
                session=_session(),
                activity=info.activity_type,
                id=info.activity_id,
                attempt=info.attempt,
                begun=begun,
                pid=os.getpid(),
                at=time.time(),
            )
        )


class _Outbound(ActivityOutboundInterceptor):
    """A heartbeat with details is a model that streams, or a command that has written something."""

    def __init__(self, next: ActivityOutboundInterceptor, armory: Armory) -> None:
        super().__init__(next)
        self._armory = armory
        self.kind = ""

    def heartbeat(self, *details: object) -> None:
        super().heartbeat(*details)
        if details and (point := {"model": "model.stream", "shell": "shell.effect"}.get(self.kind)):
            self._armory.strike(point, _session())


def _kind(input: ExecuteActivityInput) -> str:
    name = activity.info().activity_type
    record = input.args[0] if input.args else None
    if isinstance(record, RunToolInput):
        return kind(record.name)
    return _KINDS.get(name, name)


_KINDS = {
    "call_model": "model",
    "export_runs": "export",
    "compact_context": "compact",
    "open_workspace": "open",
    "checkpoint_workspace": "store",
}


def _session() -> str:
    return _session_of(activity.info().workflow_id or "")


def _session_of(workflow_id: str) -> str:
    return next((part for part in workflow_id.split("/") if part.startswith("chaos-")), "")


# --- workflow tasks ------------------------------------------------------------------------------------------------


class _Runner(WorkflowRunner):
    def __init__(self, next: WorkflowRunner, armory: Armory, loop: asyncio.AbstractEventLoop) -> None:
        self._next = next
        self._armory = armory
        self._loop = loop

    def prepare_workflow(self, defn: _Definition) -> None:
        self._next.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Instance(self._next.create_instance(det), det, self._armory, self._loop)

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        self._next.set_worker_level_failure_exception_types(types)


class _Instance(WorkflowInstance):
    def __init__(
        self, next: WorkflowInstance, det: WorkflowInstanceDetails, armory: Armory, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._next = next
        self._session = _session_of(det.info.workflow_id)
        self._name = det.defn.name or ""
        self._armory = armory
        self._loop = loop

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._next.activate(act)
        if not act.is_replaying and self._session:
            for point in task_points(self._name, act, completion):
                self._armory.strike(point, self._session)
            if by := self._armory.taken("task.reported"):
                later = (SOON, self._armory.die, "task.reported", self._session, by)
                self._loop.call_soon_threadsafe(self._loop.call_later, *later)
        return completion

    def get_serialization_context(self, command_info: object) -> SerializationContext | None:
        return self._next.get_serialization_context(command_info)  # type: ignore[arg-type]

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        return self._next.get_external_store_context(command_info)  # type: ignore[arg-type]

    def get_info(self) -> object:  # type: ignore[override]
        return self._next.get_info()

    def get_thread_id(self) -> int | None:
        return self._next.get_thread_id()


def task_points(name: str, act: WorkflowActivation, completion: WorkflowActivationCompletion) -> Iterator[str]:
    """The named steps that a workflow task goes through."""
    if name == "ExportWorkflow":
        yield "export.task"
        return
    for job in act.jobs:
        yield from _job_points(job)
    for command in completion.successful.commands:
        yield from _command_points(command)


def _job_points(job: WorkflowActivationJob) -> Iterator[str]:
    match job.WhichOneof("variant"):
        case "initialize_workflow":
            yield "task.continued" if job.initialize_workflow.continued_from_execution_run_id else "task.first"
        case "resolve_activity":
            yield "task.result"
        case "do_update" if job.do_update.name in ("pause", "resume", "archive"):
            yield f"task.{job.do_update.name}"
        case "signal_workflow":
            data = b"".join(payload.data for payload in job.signal_workflow.input)
            for mark, point in _SIGNALS.items():
                if mark in data:
                    yield point
        case _:
            return


_SIGNALS = {
    b'"user.message"': "task.message",
    b'"user.interrupt"': "task.interrupt",
    b'"user.tool_confirmation"': "task.answer",
    b'"user.custom_tool_result"': "task.answer",
}


def _command_points(command: WorkflowCommand) -> Iterator[str]:
    match command.WhichOneof("variant"):
        case "schedule_activity":
            yield "task.schedule"
        case "start_timer":
            yield "task.retry"
        case "continue_as_new_workflow_execution":
            yield "task.continue"
        case "complete_workflow_execution":
            yield "task.seal"
        case "modify_workflow_properties":
            fields = command.modify_workflow_properties.upserted_memo.fields.values()
            if any(b'"requires_action"' in payload.data for payload in fields):
                yield "task.park"
        case _:
            return
