"""Work items of self-hosted environments: one workflow each, from the queue to its end."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from sojourn.workflows.refusal import refuse

with workflow.unsafe.imports_passed_through():
    from sojourn.types.error import ConflictError, HeartbeatRefusedError, InvalidRequestError
    from sojourn.types.id import workflow_id
    from sojourn.types.name import (
        ACK_WORK_UPDATE,
        CLAIM_WORK_UPDATE,
        HEARTBEAT_WORK_UPDATE,
        STATUS_ATTRIBUTE,
        STOP_WORK_UPDATE,
        UPDATE_WORK_UPDATE,
        WORK_MEMO,
        WORK_OVER_SIGNAL,
        WORK_WORKFLOW,
    )
    from sojourn.types.wire import parse
    from sojourn.types.work import (
        LONGEST_LEASE,
        NO_HEARTBEAT,
        ClaimWork,
        Heartbeat,
        HeartbeatReply,
        StopWork,
        UpdateWork,
        WorkInput,
        WorkItem,
    )


@workflow.defn(name=WORK_WORKFLOW)
class WorkWorkflow:
    """One item. It ends when the work is stopped, and tells the session."""

    @workflow.init
    def __init__(self, input: WorkInput) -> None:
        self._item = input.item

    @workflow.run
    async def run(self, input: WorkInput) -> None:
        """Watch over the lease until the item is stopped."""
        while self._item.state != "stopped":
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(WorkInput(item=self._item), memo={WORK_MEMO: self._item})
            await self._wait()
            if self._is_over_time():
                self._give_back()
        await self._tell_session()
        await workflow.wait_condition(workflow.all_handlers_finished)

    async def _wait(self) -> None:
        """Until something has changed or the lease is over."""
        before, end = self._item, self._item.lease_ends_at
        try:
            await workflow.wait_condition(
                lambda: self._item != before or workflow.info().is_continue_as_new_suggested(),
                timeout=None if end is None else max(end - workflow.now(), timedelta(0)),
                timeout_summary="lease",
            )
        except TimeoutError:
            return

    def _is_over_time(self) -> bool:
        end = self._item.lease_ends_at
        return end is not None and end <= workflow.now() and self._item.state != "stopped"

    def _give_back(self) -> None:
        """The worker has not been heard: another may take the item, unless it was to be stopped anyway."""
        if self._item.state == "stopping":
            self._change(state="stopped", stopped_at=workflow.now())
        else:
            self._change(state="queued", claimed_at=None, acknowledged_at=None, latest_heartbeat_at=None)

    async def _tell_session(self) -> None:
        session = workflow.get_external_workflow_handle(workflow_id(self._item.workspace, self._item.session_id))
        try:
            await session.signal(WORK_OVER_SIGNAL, self._item.id)
        except (ApplicationError, FailureError):
            # The session is over.
            return

    # --- messages --------------------------------------------------------------------------------------------------

    @workflow.update(name=CLAIM_WORK_UPDATE)
    def claim(self, how: ClaimWork) -> WorkItem:
        """Hand the item out to one worker."""
        return self._change(claimed_at=workflow.now())

    @claim.validator
    def _may_claim(self, how: ClaimWork) -> None:
        claimed, now = self._item.claimed_at, workflow.now()
        if self._item.state != "queued" or (claimed and now < claimed + timedelta(seconds=how.reclaim_seconds)):
            raise refuse(ConflictError(f"work {self._item.id!r} is with another worker; poll for the next"))

    @workflow.update(name=ACK_WORK_UPDATE)
    def acknowledge(self) -> WorkItem:
        """Begin with the item."""
        return self._change(state="starting", acknowledged_at=workflow.now(), latest_heartbeat_at=None)

    @acknowledge.validator
    def _may_acknowledge(self) -> None:
        if self._item.state != "queued":
            raise refuse(ConflictError(f"work {self._item.id!r} is {self._item.state}; poll for the next"))

    @workflow.update(name=HEARTBEAT_WORK_UPDATE)
    def heartbeat(self, beat: Heartbeat) -> HeartbeatReply:
        """Keep the item. A worker that was to stop hears it now."""
        extended = self._item.state in ("starting", "active")
        if extended:
            now = workflow.now()
            lease = min(beat.lease_seconds or self._item.lease_seconds, int(LONGEST_LEASE.total_seconds()))
            self._change(
                state="active",
                started_at=self._item.started_at or now,
                latest_heartbeat_at=now,
                lease_seconds=lease,
            )
        return HeartbeatReply(item=self._item, extended=extended)

    @heartbeat.validator
    def _may_beat(self, beat: Heartbeat) -> None:
        last = self._item.latest_heartbeat_at
        expected = last.isoformat() if last else NO_HEARTBEAT
        if self._item.state == "queued" or (beat.expected and beat.expected != expected):
            known = "" if expected == NO_HEARTBEAT else expected
            lease = self._item.lease_seconds
            raise refuse(
                HeartbeatRefusedError(self._item.id, state=self._item.state, last_heartbeat=known, ttl_seconds=lease)
            )

    @workflow.update(name=STOP_WORK_UPDATE)
    def stop(self, how: StopWork) -> WorkItem:
        """End the item; one that nobody works on ends at once."""
        now = workflow.now()
        requested = self._item.stop_requested_at or now
        if how.force or self._item.state in ("queued", "stopping"):
            return self._change(state="stopped", stop_requested_at=requested, stopped_at=now)
        return self._change(state="stopping", stop_requested_at=requested)

    @stop.validator
    def _may_stop(self, how: StopWork) -> None:
        if self._item.state == "stopped":
            raise refuse(ConflictError(f"work {self._item.id!r} is stopped already"))

    @workflow.update(name=UPDATE_WORK_UPDATE)
    def update(self, change: UpdateWork) -> WorkItem:
        """Change what is for people."""
        return self._change(metadata=self._patched(change))

    @update.validator
    def _may_update(self, change: UpdateWork) -> None:
        try:
            parse(WorkItem, {**self._item.model_dump(), "metadata": self._patched(change)})
        except InvalidRequestError as error:
            raise refuse(error) from None

    def _patched(self, change: UpdateWork) -> dict[str, str]:
        merged = {**self._item.metadata, **change.metadata}
        return {key: value for key, value in merged.items() if value is not None}

    def _change(self, **changes: object) -> WorkItem:
        before, self._item = self._item, self._item.model_copy(update=changes)
        workflow.upsert_memo({WORK_MEMO: self._item})
        if before.state != self._item.state:
            workflow.upsert_search_attributes([STATUS_ATTRIBUTE.value_set(self._item.state)])
        return self._item
