"""The work queue of self-hosted environments: items are workflows, read from their memos (Managed Agents API §1.2)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client

from sojourn.client.failure import translated
from sojourn.client.listing import MAX_LIMIT, Page, condition, list_workflows
from sojourn.client.update import execute_update
from sojourn.types.chain import described_run
from sojourn.types.described import attribute, is_open, memo
from sojourn.types.error import ConflictError, SessionNotFoundError, WorkNotFoundError
from sojourn.types.id import EnvironmentId, SessionId, WorkId, workflow_id
from sojourn.types.name import (
    ACK_WORK_UPDATE,
    CLAIM_WORK_UPDATE,
    ENVIRONMENT_ATTRIBUTE,
    HEARTBEAT_WORK_UPDATE,
    SESSION_WORKFLOW,
    STATUS_ATTRIBUTE,
    STOP_WORK_UPDATE,
    UPDATE_WORK_UPDATE,
    USER_ATTRIBUTE,
    WORK_MEMO,
    WORK_WORKFLOW,
    WORKSPACE_ATTRIBUTE,
)
from sojourn.types.session import Owner
from sojourn.types.wire import Wire
from sojourn.types.work import (
    RECLAIM,
    ClaimWork,
    Heartbeat,
    HeartbeatReply,
    StopWork,
    UpdateWork,
    WorkItem,
    WorkState,
)

R = TypeVar("R", bound=Wire)

_LOOK = timedelta(milliseconds=250)
"""How often a poll that waits looks again."""


class WorkStats(Wire):
    """How full a queue is."""

    depth: int
    """Items that wait for a worker."""
    pending: int
    """Items that were handed out and not acknowledged."""
    oldest_queued_at: datetime | None = None


class WorkStore:
    """Hands out, keeps and ends work items."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host

    async def poll(
        self,
        environment_id: EnvironmentId,
        *,
        workspace: str,
        wait: timedelta = timedelta(0),
        reclaim: timedelta = RECLAIM,
    ) -> WorkItem | None:
        """Hand out the oldest item that waits.

        Args:
            environment_id: Whose queue.
            workspace: Of the environment.
            wait: How long to wait for one.
            reclaim: After so long an item is handed out again that nobody has acknowledged.

        Returns:
            The item; ``None`` if there is none.

        Raises:
            WorkerUnavailableError: No worker of sojourn serves the task queue.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + wait.total_seconds()
        while True:
            async for item in self._waiting(environment_id, workspace, reclaim):
                if (claimed := await self._claim(item, reclaim)) is not None:
                    return claimed
            if clock() >= end:
                return None
            await asyncio.sleep(min(_LOOK.total_seconds(), max(end - clock(), 0)))

    async def _claim(self, item: WorkItem, reclaim: timedelta) -> WorkItem | None:
        if not await self._is_live(item):
            await self._end(item)
            return None
        try:
            how = ClaimWork(reclaim_seconds=reclaim.total_seconds())
            return await self._execute(item.id, item.workspace, CLAIM_WORK_UPDATE, how, result=WorkItem)
        except (ConflictError, WorkNotFoundError):
            # Another worker was faster.
            return None

    async def _is_live(self, item: WorkItem) -> bool:
        with translated(self._address):
            info = await described_run(self._client, workflow_id(item.workspace, item.session_id))
        return info is not None and is_open(info)

    async def _end(self, item: WorkItem) -> None:
        """Take an item out of the queue whose session is over."""
        try:
            await self.stop(item.environment_id, item.id, workspace=item.workspace, force=True)
        except (ConflictError, WorkNotFoundError):
            return

    async def get(self, environment_id: EnvironmentId, work_id: str, *, workspace: str) -> WorkItem:
        """An item as it is now.

        Raises:
            WorkNotFoundError: There is none in the environment.
        """
        with translated(self._address, missing=WorkNotFoundError(work_id)):
            info = await described_run(self._client, workflow_id(workspace, WorkId(work_id)))
            item = await self._item(info) if info is not None and info.type.name == WORK_WORKFLOW else None
        if item is None or item.environment_id != environment_id:
            raise WorkNotFoundError(work_id)
        return item

    async def page(
        self, environment_id: EnvironmentId, *, workspace: str, limit: int, cursor: str | None
    ) -> Page[WorkItem]:
        """Items of an environment, newest first; ended ones as long as the server keeps them."""
        query = self._query(environment_id, workspace)
        with translated(self._address):
            infos, next_page = await list_workflows(self._client, query, limit=limit, page=cursor)
            found = [await self._item(info) for info in infos]
        return Page([each for each in found if each is not None], next_page)

    async def acknowledge(self, environment_id: EnvironmentId, work_id: str, *, workspace: str) -> WorkItem:
        """Begin with an item.

        Raises:
            ConflictError: It is not in the queue any more.
            WorkNotFoundError: There is none in the environment.
        """
        await self.get(environment_id, work_id, workspace=workspace)
        return await self._execute(WorkId(work_id), workspace, ACK_WORK_UPDATE, None, result=WorkItem)

    async def heartbeat(
        self, environment_id: EnvironmentId, work_id: str, beat: Heartbeat, *, workspace: str
    ) -> HeartbeatReply:
        """Keep an item.

        Raises:
            HeartbeatRefusedError: Another worker has it, or the queue.
            WorkNotFoundError: There is none in the environment.
        """
        item = await self.get(environment_id, work_id, workspace=workspace)
        if item.state == "stopped":
            return HeartbeatReply(item=item, extended=False)
        return await self._execute(WorkId(work_id), workspace, HEARTBEAT_WORK_UPDATE, beat, result=HeartbeatReply)

    async def stop(self, environment_id: EnvironmentId, work_id: str, *, workspace: str, force: bool) -> WorkItem:
        """End an item, at once or with its worker's next heartbeat.

        Raises:
            ConflictError: It has ended already.
            WorkNotFoundError: There is none in the environment.
        """
        item = await self.get(environment_id, work_id, workspace=workspace)
        if item.state == "stopped":
            raise ConflictError(f"work {work_id!r} is stopped already")
        how = StopWork(force=force)
        return await self._execute(WorkId(work_id), workspace, STOP_WORK_UPDATE, how, result=WorkItem)

    async def update(
        self, environment_id: EnvironmentId, work_id: str, change: UpdateWork, *, workspace: str
    ) -> WorkItem:
        """Change an item's metadata.

        Raises:
            InvalidRequestError: The result would be none.
            WorkNotFoundError: There is none in the environment, or it has ended.
        """
        await self.get(environment_id, work_id, workspace=workspace)
        return await self._execute(WorkId(work_id), workspace, UPDATE_WORK_UPDATE, change, result=WorkItem)

    async def stats(self, environment_id: EnvironmentId, *, workspace: str) -> WorkStats:
        """How full the queue is."""
        now = datetime.now(UTC)
        queued = [item async for item in self._queued(environment_id, workspace)]
        pending = [item for item in queued if item.claimed_at and now < item.claimed_at + RECLAIM]
        oldest = min((item.created_at for item in queued), default=None)
        return WorkStats(depth=len(queued) - len(pending), pending=len(pending), oldest_queued_at=oldest)

    async def session_owner(self, session_id: str, environment_id: EnvironmentId, *, workspace: str) -> Owner:
        """Whose session it is, for the worker of its environment.

        Raises:
            SessionNotFoundError: There is none in the environment.
        """
        with translated(self._address, missing=SessionNotFoundError(session_id)):
            info = await described_run(self._client, workflow_id(workspace, SessionId(session_id)))
        if info is None or info.type.name != SESSION_WORKFLOW:
            raise SessionNotFoundError(session_id)
        if attribute(info, ENVIRONMENT_ATTRIBUTE) != environment_id:
            raise SessionNotFoundError(session_id)
        return Owner(workspace, attribute(info, USER_ATTRIBUTE) or "default")

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _waiting(
        self, environment_id: EnvironmentId, workspace: str, reclaim: timedelta
    ) -> AsyncIterator[WorkItem]:
        now = datetime.now(UTC)
        queued = [item async for item in self._queued(environment_id, workspace)]
        for item in sorted(queued, key=lambda item: item.created_at):
            if item.claimed_at is None or now >= item.claimed_at + reclaim:
                yield item

    async def _queued(self, environment_id: EnvironmentId, workspace: str) -> AsyncIterator[WorkItem]:
        query, cursor = self._query(environment_id, workspace, state="queued"), None
        while True:
            with translated(self._address):
                infos, cursor = await list_workflows(self._client, query, limit=MAX_LIMIT, page=cursor)
                found = [await self._item(info) for info in infos]
            for item in found:
                # The list may lag behind.
                if item is not None and item.state == "queued":
                    yield item
            if cursor is None:
                return

    def _query(self, environment_id: EnvironmentId, workspace: str, *, state: WorkState | None = None) -> str:
        return condition(
            {
                "WorkflowType": WORK_WORKFLOW,
                WORKSPACE_ATTRIBUTE: workspace,
                ENVIRONMENT_ATTRIBUTE: environment_id,
                STATUS_ATTRIBUTE: state,
                "ExecutionStatus": "Running" if state else None,
            }
        )

    async def _item(self, info: WorkflowExecutionInfo) -> WorkItem | None:
        return await memo(self._client, info, WORK_MEMO, WorkItem)

    async def _execute(
        self, work_id: WorkId, workspace: str, name: str, argument: object | None, *, result: type[R]
    ) -> R:
        return await execute_update(
            self._client,
            workflow_id(workspace, work_id),
            name,
            argument,
            result=result,
            missing=WorkNotFoundError(work_id),
            task_queue=self._task_queue,
        )
