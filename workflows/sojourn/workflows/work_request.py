"""A session's wish for a worker of the user's own, where its environment is self-hosted."""

import asyncio
from collections.abc import Callable

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes

with workflow.unsafe.imports_passed_through():
    from sojourn.types.id import EnvironmentId, WorkId, workflow_id
    from sojourn.types.name import (
        ENVIRONMENT_ATTRIBUTE,
        STATUS_ATTRIBUTE,
        WORK_MEMO,
        WORK_WORKFLOW,
        WORKSPACE_ATTRIBUTE,
    )
    from sojourn.types.session import SessionInput
    from sojourn.types.work import WorkInput, WorkItem


class WorkRequests:
    """Puts items into the queue, one at a time.

    Attributes:
        live: The item that has been asked for and is not over; ``None`` if there is none.
    """

    def __init__(self, input: SessionInput, live: WorkId | None, wanted: Callable[[], bool]) -> None:
        self.live = live
        self._input = input
        self._wanted = wanted
        self._asking: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Put an item into the queue, if one is wanted and there is none."""
        if self.live is None and self._input.environment_id is not None and self._wanted():
            self.live = WorkId(f"work_{workflow.uuid7().hex}")
            self._asking = asyncio.create_task(_start(self._item(self.live, self._input.environment_id)))

    def over(self, id: str) -> None:
        """An item has ended. Calls that are open still get the next one."""
        if id == self.live:
            self.live = None
            self.look()

    async def at_rest(self) -> None:
        """Wait until nothing is in flight for it."""
        if self._asking is not None:
            await asyncio.wait({self._asking})

    def _item(self, id: WorkId, environment_id: EnvironmentId) -> WorkItem:
        return WorkItem(
            id=id,
            workspace=self._input.owner.workspace,
            environment_id=environment_id,
            session_id=self._input.session_id,
            created_at=workflow.now(),
        )


async def _start(item: WorkItem) -> None:
    # Beside the session, not below it: an item outlives the run that asked for it.
    await workflow.start_child_workflow(
        WORK_WORKFLOW,
        WorkInput(item=item),
        id=workflow_id(item.workspace, item.id),
        parent_close_policy=workflow.ParentClosePolicy.ABANDON,
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(WORKSPACE_ATTRIBUTE, item.workspace),
                SearchAttributePair(ENVIRONMENT_ATTRIBUTE, item.environment_id),
                SearchAttributePair(STATUS_ATTRIBUTE, item.state),
            ]
        ),
        memo={WORK_MEMO: item},
        static_summary=f"work of {item.session_id}",
    )
