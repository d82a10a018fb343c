"""Deleting a session: what the server has of it, then what the object store has."""

import asyncio
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.client.file import now
from sojourn.client.listing import MAX_LIMIT, list_workflows, quote
from sojourn.types.archive import archive_of
from sojourn.types.chain import described_run, is_missing, run_start
from sojourn.types.described import attribute
from sojourn.types.error import CheckpointError, InternalError, InvalidRequestError
from sojourn.types.export import ExportState
from sojourn.types.file_store import FileStore
from sojourn.types.id import SessionId, export_workflow_id
from sojourn.types.name import EXPORT_ATTRIBUTE
from sojourn.types.session import Owner
from sojourn.types.store import STORE_VARIABLE

PATIENCE = timedelta(seconds=60)
"""A stock server takes up to half a minute to forget a run that has just closed (temporal.md §2)."""

_LOOKS = timedelta(milliseconds=50)


class Deletion:
    """Removes one session. Begun, it can be begun again until nothing is left.

    The server comes first: an export that is in flight looks there whether the session still exists, after it has
    written; and the store is emptied only when the server has forgotten. So one of the two removes what was written.
    """

    def __init__(self, client: Client, workflow_id: str, owner: Owner, *, patience: timedelta = PATIENCE) -> None:
        self._client = client
        self._workflow_id = workflow_id
        self._owner = owner
        self._patience = patience
        self._archive = archive_of(client)
        self._first_run_id = ""

    async def run(self, run_id: str) -> None:
        """Remove everything.

        Args:
            run_id: The session's latest run, on the server or in the archive.

        Raises:
            InternalError: The server takes longer to forget; it goes on by itself.
            InvalidRequestError: Parts are in a store that this client does not have. Nothing was deleted.
            RPCError: As the server says.
            StoreUnavailableError: The store cannot be reached or refuses; the same call works later.
        """
        if self._archive is None:
            await self._refuse_if_exported()
        else:
            await self._archive.begin_deletion(self._workflow_id, self._owner)
        runs = await self._runs(run_id)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                taken = await self._clear_server(runs)
        except TimeoutError:
            text = f"session {self._session_id!r} is still being deleted; look again in a minute"
            raise InternalError(text) from None
        if taken and self._archive is not None:
            await self._archive.delete_runs(self._workflow_id, runs)
        else:
            await self._clear_store()

    async def resume(self) -> bool:
        """Finish a deletion that was cut off after the server had forgotten the session; whether there was one."""
        archive, workflow_id = self._archive, self._workflow_id
        if archive is None or await archive.deletion(workflow_id) != self._owner:
            return False
        # The id may belong to another session by now.
        if await described_run(self._client, workflow_id) is not None or await archive.session(workflow_id) is not None:
            return False
        await self._clear_store()
        return True

    async def _refuse_if_exported(self) -> None:
        for workflow_id in (self._workflow_id, export_workflow_id(self._workflow_id)):
            info = await described_run(self._client, workflow_id)
            if info is not None and attribute(info, EXPORT_ATTRIBUTE) in (ExportState.STORED, ExportState.FAILING):
                raise InvalidRequestError(
                    f"parts of session {self._session_id!r} are in an object store that this client was not told of; "
                    f"set {STORE_VARIABLE} and delete it again",
                    param="store",
                )

    # --- the server ------------------------------------------------------------------------------------------------

    async def _runs(self, run_id: str) -> list[str]:
        """All runs of the chain, the latest first, as far as it can be followed."""
        runs: list[str] = []
        while run_id:
            runs.append(run_id)
            try:
                run = await run_start(self._client, self._workflow_id, run_id)
            except CheckpointError:
                break
            except RPCError as error:
                if not is_missing(error):
                    raise
                break
            self._first_run_id, run_id = run.first_run_id, run.previous_run_id
        return runs

    async def _clear_server(self, runs: list[str]) -> bool:
        """Delete these runs and what comes after them; whether another session has taken the id meanwhile."""
        taken = False
        await self._delete_children()
        for run_id in runs:
            await self._delete_run(self._workflow_id, run_id)
        while (info := await described_run(self._client, self._workflow_id)) is not None:
            if info.execution.run_id not in runs:
                if taken := info.first_run_id != self._first_run_id:
                    break
                # It has rolled over since we looked.
                runs.insert(0, info.execution.run_id)
                await self._delete_run(self._workflow_id, runs[0])
            await asyncio.sleep(_LOOKS.total_seconds())
        # Once more, because the session may have started one until its very end.
        await self._delete_children()
        while await self._export() is not None:  # noqa: ASYNC110 (the server does not tell)
            await asyncio.sleep(_LOOKS.total_seconds())
        return taken

    async def _delete_children(self) -> None:
        """Whatever belongs to the session; the export by name, because lists are a little behind."""
        query = f"WorkflowId STARTS_WITH {quote(f'{self._workflow_id}/')}"
        page: str | None = None
        while True:
            infos, page = await list_workflows(self._client, query, limit=MAX_LIMIT, page=page)
            for info in infos:
                await self._delete_run(info.execution.workflow_id, info.execution.run_id)
            if page is None:
                break
        if (export := await self._export()) is not None:
            await self._delete_run(export.execution.workflow_id, export.execution.run_id)

    async def _export(self) -> WorkflowExecutionInfo | None:
        return await described_run(self._client, export_workflow_id(self._workflow_id))

    async def _delete_run(self, workflow_id: str, run_id: str) -> None:
        request = DeleteWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        )
        try:
            await self._client.workflow_service.delete_workflow_execution(request, retry=True)
        except RPCError as error:
            if not is_missing(error):
                raise

    # --- the store -------------------------------------------------------------------------------------------------

    async def _clear_store(self) -> None:
        if self._archive is None:
            return
        files = FileStore(self._archive.store, clock=now)
        for _ in range(3):
            # First, because the session's folder says which files are the session's.
            await files.forget_session(self._owner.workspace, SessionId(self._session_id))
            await self._archive.delete(self._workflow_id)
            if await self._archive.is_gone(self._workflow_id):
                return
        raise InternalError(f"somebody still writes to the store for session {self._session_id!r}; delete it again")

    @property
    def _session_id(self) -> str:
        return self._workflow_id.rpartition("/")[2]
