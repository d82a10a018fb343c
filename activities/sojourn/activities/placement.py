"""The activities `open_workspace`, `checkpoint_workspace` and `check_sandbox`: where a session's workspace is."""

import asyncio
from datetime import timedelta

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from sojourn.activities.checkpoint import Checkpoints
from sojourn.activities.pulse import Pulse
from sojourn.activities.workspace import Workspace, Workspaces
from sojourn.activities.workspace_folder import FolderRecord
from sojourn.sandbox.bundle import BundleTooLargeError
from sojourn.types.chain import described_run, run_start
from sojourn.types.error import CheckpointError, SandboxError, StoreMissingError
from sojourn.types.name import (
    CHECK_SANDBOX_ACTIVITY,
    CHECKPOINT_WORKSPACE_ACTIVITY,
    OPEN_WORKSPACE_ACTIVITY,
    SANDBOX_ELSEWHERE,
    WORKSPACE_LOST,
)
from sojourn.types.need import SANDBOX
from sojourn.types.session import SessionInput
from sojourn.types.session_error import ErrorDetail, RetryStatus
from sojourn.types.workspace import (
    Checkpoint,
    CheckpointWorkspaceInput,
    CheckpointWorkspaceResult,
    CheckSandboxInput,
    CheckSandboxResult,
    OpenWorkspaceInput,
    OpenWorkspaceResult,
    sandbox_queue,
)

_NO_SANDBOX = "no worker has a sandbox; start one with `sojourn worker --sandbox auto`"
_AT_ONCE = timedelta(seconds=5)


class Placement:
    """Holds what the activities need on a worker.

    Args:
        client: The worker's.
        task_queue: The queue that it shares with others.
        workspaces: Those that it holds; ``None`` without a sandbox.
        checkpoints: Where they are stored; ``None`` without an object store.
    """

    def __init__(
        self, client: Client, task_queue: str, workspaces: Workspaces | None, checkpoints: Checkpoints | None
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._workspaces = workspaces
        self._checkpoints = checkpoints

    # --- activities ------------------------------------------------------------------------------------------------

    @activity.defn(name=OPEN_WORKSPACE_ACTIVITY)
    async def open_workspace(self, wanted: OpenWorkspaceInput) -> OpenWorkspaceResult:
        """Make the workspace here, or bring it up to date.

        Safe to retry, here and elsewhere: calls go only to the worker whose answer has reached the workflow.

        Raises:
            ApplicationError: This worker has no sandbox, or it cannot be started.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        if self._workspaces is None:
            raise await self._refusal()
        info = activity.info()
        workspace = self._workspaces.at(info.workflow_id or "")
        async with Pulse(lambda: None):
            run = await run_start(self._client, workspace.workflow_id, info.workflow_run_id or "")
            assert run.start is not None
            start = run.start.model_copy(update={"resources": wanted.resources})
            async with workspace.lock:
                errors = await self._open(workspace, wanted, run.first_run_id)
                errors += await self._prepare(workspace, start, wanted.generation)
                record = workspace.record
        assert record is not None
        return OpenWorkspaceResult(
            queue=self._workspaces.queue, restored=record.restored, kept=record.kept, errors=errors
        )

    @activity.defn(name=CHECKPOINT_WORKSPACE_ACTIVITY)
    async def checkpoint_workspace(self, wanted: CheckpointWorkspaceInput) -> CheckpointWorkspaceResult:
        """Store the workspace, if it has changed. Safe to retry: what no workflow came to know is removed later.

        Raises:
            ApplicationError: The workspace is not here.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        info = activity.info()
        workspaces = self._workspaces
        if workspaces is None:
            raise _lost("this worker holds no workspaces")
        workspace = workspaces.at(info.workflow_id or "")
        async with Pulse(lambda: None):
            run = await run_start(self._client, workspace.workflow_id, info.workflow_run_id or "")
            assert run.start is not None
            async with workspace.lock:
                record = await asyncio.to_thread(workspace.folder.record)
                if record is None or record.generation != wanted.generation:
                    raise _lost(f"generation {wanted.generation} of the workspace is not here")
                workspace.record = record
                errors = await self._harvest(workspace, run.start)
                return await self._store(workspace, record, wanted, errors)

    @activity.defn(name=CHECK_SANDBOX_ACTIVITY)
    async def check_sandbox(self, wanted: CheckSandboxInput) -> CheckSandboxResult:
        """Whether this worker, or another of the task queue, has what a session needs. Safe to retry."""
        if self._workspaces is None:
            if await self._is_elsewhere():
                raise _elsewhere()
            return CheckSandboxResult(refusal=_NO_SANDBOX, param=SANDBOX)
        sandbox = self._workspaces.equipment.sandbox
        for need in wanted.needs:
            if need != SANDBOX and need not in sandbox.installs:
                able = ", ".join(sorted(sandbox.installs)) or "nothing"
                text = f"the workers' sandbox {sandbox.name!r} cannot install packages with {need}, only with {able}"
                return CheckSandboxResult(refusal=text, param=need)
        return CheckSandboxResult()

    # --- opening ---------------------------------------------------------------------------------------------------

    async def _refusal(self) -> ApplicationError:
        if await self._is_elsewhere():
            return _elsewhere()
        return ApplicationError(_NO_SANDBOX, type=SandboxError.__name__, non_retryable=True)

    async def _is_elsewhere(self) -> bool:
        """Whether another worker of the task queue has polled for such work within the last minutes."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=sandbox_queue(self._task_queue)),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        described = await self._client.workflow_service.describe_task_queue(request, retry=True, timeout=_AT_ONCE)
        return bool(described.pollers)

    async def _open(
        self, workspace: Workspace, wanted: OpenWorkspaceInput, first_run_id: str
    ) -> tuple[ErrorDetail, ...]:
        found = await asyncio.to_thread(workspace.folder.record)
        if found is not None and found.first_run_id == first_run_id:
            if found.generation == wanted.generation:
                workspace.record = found
                return ()
            if found.generation == wanted.held and found.used:
                # The workflow lost it and found it again. No call has run anywhere else since.
                following = {"generation": wanted.generation, "used": False, "kept": True}
                await workspace.write(found.model_copy(update=following))
                return ()
        return await self._anew(workspace, wanted, first_run_id)

    async def _anew(
        self, workspace: Workspace, wanted: OpenWorkspaceInput, first_run_id: str
    ) -> tuple[ErrorDetail, ...]:
        assert self._workspaces is not None
        owner = self._workspaces.equipment.sandbox.owner
        workspace.record = None
        await workspace.end("")
        workspace.closed_because = ""
        await asyncio.to_thread(workspace.folder.make, owner)
        errors: tuple[ErrorDetail, ...] = ()
        restored, fingerprint = None, ""
        if wanted.checkpoint is not None:
            try:
                await self._restore(workspace, wanted.checkpoint, owner)
                restored, fingerprint = wanted.checkpoint, await asyncio.to_thread(workspace.folder.fingerprint)
            except StoreMissingError:
                raise
            except CheckpointError as error:
                await asyncio.to_thread(workspace.folder.make, owner)
                errors = (_error(f"the workspace could not be restored: {error}"),)
        await workspace.write(
            FolderRecord(
                workflow_id=workspace.workflow_id,
                first_run_id=first_run_id,
                generation=wanted.generation,
                restored=restored,
                stored=restored,
                fingerprint=fingerprint,
            )
        )
        return errors

    async def _restore(self, workspace: Workspace, checkpoint: Checkpoint, owner: tuple[int, int] | None) -> None:
        if self._checkpoints is None:
            raise StoreMissingError
        await self._checkpoints.restore(checkpoint, workspace.folder, owner=owner)

    async def _prepare(self, workspace: Workspace, start: SessionInput, generation: int) -> tuple[ErrorDetail, ...]:
        assert self._workspaces is not None
        errors: tuple[ErrorDetail, ...] = ()
        for each in self._workspaces.equipment.preparations:
            errors += await each.prepare(start, workspace.folder, generation, lambda text: None)
        return errors

    # --- storing ---------------------------------------------------------------------------------------------------

    async def _harvest(self, workspace: Workspace, start: SessionInput) -> tuple[ErrorDetail, ...]:
        assert self._workspaces is not None
        errors: tuple[ErrorDetail, ...] = ()
        for each in self._workspaces.equipment.harvests:
            errors += await each.harvest(start, workspace.folder)
        return errors

    async def _store(
        self,
        workspace: Workspace,
        record: FolderRecord,
        wanted: CheckpointWorkspaceInput,
        errors: tuple[ErrorDetail, ...],
    ) -> CheckpointWorkspaceResult:
        if self._checkpoints is None:
            return CheckpointWorkspaceResult(errors=errors)
        if wanted.previous is not None:
            await self._checkpoints.forget_before(wanted.previous)
        # Before the files are read: what changes meanwhile has to be stored the next time.
        fingerprint = await asyncio.to_thread(workspace.folder.fingerprint)
        if record.stored is not None and record.stored == wanted.previous and record.fingerprint == fingerprint:
            return CheckpointWorkspaceResult(checkpoint=record.stored, errors=errors)
        try:
            stored, skipped = await self._checkpoints.write(
                workspace.folder, record.workflow_id, record.first_run_id, record.generation
            )
        except BundleTooLargeError as error:
            text = f"the workspace was not stored: {error}; it is lost if its worker is. Have the agent remove some"
            return CheckpointWorkspaceResult(checkpoint=wanted.previous, errors=(*errors, _error(text)))
        if skipped:
            activity.logger.warning("not stored, because they cannot be read: %s", ", ".join(skipped[:10]))
        if await self._is_gone():
            await self._checkpoints.forget(record.workflow_id, record.first_run_id)
            return CheckpointWorkspaceResult()
        await workspace.write(record.model_copy(update={"stored": stored, "fingerprint": fingerprint}))
        return CheckpointWorkspaceResult(checkpoint=stored, errors=errors)

    async def _is_gone(self) -> bool:
        """Whether the session was deleted meanwhile.

        A deletion takes the session off the server before it empties the store. So either it finds what was written
        here, or we see here that it has been.
        """
        info = activity.info()
        return await described_run(self._client, info.workflow_id or "", info.workflow_run_id or "") is None


def _lost(text: str) -> ApplicationError:
    return ApplicationError(text, type=WORKSPACE_LOST, non_retryable=True, category=ApplicationErrorCategory.BENIGN)


def _elsewhere() -> ApplicationError:
    return ApplicationError(
        "this worker has no sandbox, and another has",
        type=SANDBOX_ELSEWHERE,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


def _error(text: str) -> ErrorDetail:
    return ErrorDetail(type="workspace_error", message=text, retry_status=RetryStatus(type="retrying"))
