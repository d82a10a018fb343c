"""Whether the workers can give a session the sandbox that it needs, asked before it starts."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from sojourn.client.failure import translated
from sojourn.client.update import has_worker
from sojourn.types.error import InvalidRequestError
from sojourn.types.name import CHECK_SANDBOX_WORKFLOW
from sojourn.types.need import SANDBOX, Need
from sojourn.types.workspace import CheckSandboxInput, CheckSandboxResult

PATIENCE = timedelta(seconds=5)
"""Who gets no answer in time starts the session all the same; its tools say what is missing."""

_REMEMBERED = timedelta(seconds=60)


class SandboxCheck:
    """Asks the workers of a task queue, and remembers for a while what they have agreed to."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host
        self._agreed: dict[tuple[str, ...], float] = {}
        self._forgetting: set[asyncio.Task[None]] = set()

    async def require(self, needs: Sequence[Need]) -> None:
        """Refuse what the workers say they cannot honour.

        Raises:
            InvalidRequestError: Names the field that asks for it.
        """
        asked = tuple(sorted(need.what for need in needs))
        if not asked or self._agreed.get(asked, 0.0) > time.monotonic():
            return
        answer = await self._ask(asked)
        if answer is None:
            return
        if answer.refusal is None:
            self._agreed[asked] = time.monotonic() + _REMEMBERED.total_seconds()
            return
        field = next((need.field for need in needs if need.what == (answer.param or SANDBOX)), needs[0].field)
        raise InvalidRequestError(f"{field}: {answer.refusal}", param=field)

    async def _ask(self, needs: tuple[str, ...]) -> CheckSandboxResult | None:
        """What a worker says; ``None`` if none says anything."""
        id = f"check-sandbox/{uuid.uuid4().hex}"
        with translated(self._address):
            if not await has_worker(self._client, self._task_queue):
                return None
            handle = await self._client.start_workflow(
                CHECK_SANDBOX_WORKFLOW,
                CheckSandboxInput(needs=needs),
                id=id,
                task_queue=self._task_queue,
                execution_timeout=2 * PATIENCE,
                static_summary=f"needs {', '.join(needs)}",
                result_type=CheckSandboxResult,
            )
            try:
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    answer: CheckSandboxResult = await handle.result()
            except (TimeoutError, WorkflowFailureError):
                # Perhaps a worker of an earlier release, which does not know the question.
                return None
            finally:
                self._forget(id)
        return answer

    def _forget(self, id: str) -> None:
        """Have the server forget that it was asked."""
        task = asyncio.create_task(self._delete(id))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def _delete(self, id: str) -> None:
        request = DeleteWorkflowExecutionRequest(
            namespace=self._client.namespace, workflow_execution=WorkflowExecution(workflow_id=id)
        )
        try:
            await self._client.workflow_service.delete_workflow_execution(request)
        except RPCError:
            # It ends by itself, and is forgotten with the retention of the namespace.
            return
