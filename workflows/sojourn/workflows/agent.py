"""The agent workflow: one entity for each agent, holding the number of its versions.

The definitions themselves are in history: the first in the workflow's input, the others in the accepted updates. Any
reader can list them without a worker (`sojourn.client`).
"""

from datetime import datetime

from temporalio import workflow
from temporalio.common import VersioningBehavior

from sojourn.workflows.refusal import refuse

with workflow.unsafe.imports_passed_through():
    from sojourn.types.agent import AgentInput, UpdateAgentInput
    from sojourn.types.error import AgentArchivedError, VersionConflictError
    from sojourn.types.name import (
        AGENT_NAME_MEMO,
        AGENT_VERSION_MEMO,
        AGENT_WORKFLOW,
        ARCHIVE_AGENT_UPDATE,
        CREATED_MEMO,
        STATUS_ATTRIBUTE,
        UPDATE_AGENT_UPDATE,
    )


@workflow.defn(name=AGENT_WORKFLOW)
class AgentWorkflow:
    """One agent and its versions. It stays open when archived, so that it can still be listed and read."""

    @workflow.init
    def __init__(self, input: AgentInput) -> None:
        self._id = input.agent_id
        self._definition = input.definition
        self._version = input.version
        self._archived = input.archived
        self._input = input

    @workflow.run
    async def run(self, input: AgentInput) -> None:
        """Live as long as the namespace does."""
        await workflow.wait_condition(workflow.info().is_continue_as_new_suggested)
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(
            self._input.model_copy(
                update={"definition": self._definition, "version": self._version, "archived": self._archived}
            ),
            memo={
                AGENT_NAME_MEMO: self._definition.name,
                AGENT_VERSION_MEMO: self._version,
                CREATED_MEMO: workflow.memo_value(
                    CREATED_MEMO, default=workflow.info().workflow_start_time, type_hint=datetime
                ),
            },
        )

    @workflow.update(name=UPDATE_AGENT_UPDATE)
    def update(self, change: UpdateAgentInput) -> int:
        """Store a new version, unless nothing differs.

        Returns:
            The number of the version that now holds.
        """
        if change.definition != self._definition:
            self._definition = change.definition
            self._version += 1
            workflow.upsert_memo({AGENT_NAME_MEMO: change.definition.name, AGENT_VERSION_MEMO: self._version})
        return self._version

    @update.validator
    def _may_update(self, change: UpdateAgentInput) -> None:
        if self._archived:
            raise refuse(AgentArchivedError(self._id))
        if change.version is not None and change.version != self._version:
            raise refuse(VersionConflictError(self._id, expected=change.version, actual=self._version))

    @workflow.update(name=ARCHIVE_AGENT_UPDATE)
    def archive(self) -> None:
        """Refuse new sessions and versions from now on. Repeating it changes nothing."""
        if not self._archived:
            self._archived = True
            workflow.upsert_search_attributes([STATUS_ATTRIBUTE.value_set("archived")])


@workflow.defn(name=AGENT_WORKFLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedAgentWorkflow(AgentWorkflow):
    """The same for workers with a version; others may not declare how it changes.

    Pinned, as sessions are, an agent would stay for good on the version that made it, which could then never drain.
    """

    @workflow.init
    def __init__(self, input: AgentInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: AgentInput) -> None:
        """See `AgentWorkflow.run`."""
        await super().run(input)
