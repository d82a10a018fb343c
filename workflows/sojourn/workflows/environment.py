"""Environments: one entity for each, and one for each name that is taken.

What an environment is stands in its workflow's memo, so that any reader finds and lists it without a worker.
"""

from datetime import datetime

from temporalio import workflow
from temporalio.common import VersioningBehavior

from sojourn.workflows.refusal import refuse

with workflow.unsafe.imports_passed_through():
    from sojourn.types.environment import (
        Environment,
        EnvironmentChange,
        EnvironmentInput,
        EnvironmentMemo,
        EnvironmentUpdate,
    )
    from sojourn.types.error import ConflictError, EnvironmentArchivedError, InvalidRequestError
    from sojourn.types.name import (
        ARCHIVE_ENVIRONMENT_UPDATE,
        ENVIRONMENT_MEMO,
        ENVIRONMENT_WORKFLOW,
        HOLD_ENVIRONMENT_UPDATE,
        NAME_WORKFLOW,
        STATUS_ATTRIBUTE,
        UPDATE_ENVIRONMENT_UPDATE,
    )


@workflow.defn(name=ENVIRONMENT_WORKFLOW)
class EnvironmentWorkflow:
    """One environment. It stays open when archived, so that it can still be listed and read."""

    @workflow.init
    def __init__(self, input: EnvironmentInput) -> None:
        self._input = input
        self._environment = input.environment
        self._deleting_at: datetime | None = input.deleting_at

    @workflow.run
    async def run(self, input: EnvironmentInput) -> None:
        """Live until it is deleted."""
        await workflow.wait_condition(workflow.info().is_continue_as_new_suggested)
        await workflow.wait_condition(workflow.all_handlers_finished)
        now = {"environment": self._environment, "deleting_at": self._deleting_at}
        workflow.continue_as_new(self._input.model_copy(update=now), memo=self._memo())

    @workflow.update(name=UPDATE_ENVIRONMENT_UPDATE)
    def update(self, change: EnvironmentChange) -> EnvironmentUpdate:
        """Change what the change names, for the sessions to come."""
        before, after = self._environment, change.applied(self._environment)
        if after != before:
            after = after.model_copy(update={"updated_at": workflow.now()})
            self._environment = after
            workflow.upsert_memo(self._memo())
        return EnvironmentUpdate(before=before, after=after)

    @update.validator
    def _may_update(self, change: EnvironmentChange) -> None:
        if self._environment.archived_at is not None:
            raise refuse(EnvironmentArchivedError(self._environment.id))
        if self._held():
            raise refuse(ConflictError(f"environment {self._environment.id!r} is being deleted; create a new one"))
        try:
            change.applied(self._environment)
        except InvalidRequestError as error:
            raise refuse(error) from None

    @workflow.update(name=ARCHIVE_ENVIRONMENT_UPDATE)
    def archive(self) -> Environment:
        """Refuse new sessions and changes from now on. Repeating it changes nothing."""
        if self._environment.archived_at is None:
            now = {"archived_at": workflow.now(), "updated_at": workflow.now()}
            self._environment = self._environment.model_copy(update=now)
            workflow.upsert_memo(self._memo())
            workflow.upsert_search_attributes([STATUS_ATTRIBUTE.value_set("archived")])
        return self._environment

    @workflow.update(name=HOLD_ENVIRONMENT_UPDATE)
    def hold(self, wanted: bool) -> None:
        """Hold new sessions off while somebody looks whether it can be deleted, or let them in again."""
        self._deleting_at = workflow.now() if wanted else None
        workflow.upsert_memo(self._memo())

    def _held(self) -> bool:
        return self._shown().is_held(workflow.now())

    def _shown(self) -> EnvironmentMemo:
        return EnvironmentMemo(environment=self._environment, deleting_at=self._deleting_at)

    def _memo(self) -> dict[str, EnvironmentMemo]:
        return {ENVIRONMENT_MEMO: self._shown()}


@workflow.defn(name=ENVIRONMENT_WORKFLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedEnvironmentWorkflow(EnvironmentWorkflow):
    """The same for workers with a version; see `VersionedAgentWorkflow`."""

    @workflow.init
    def __init__(self, input: EnvironmentInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: EnvironmentInput) -> None:
        """See `EnvironmentWorkflow.run`."""
        await super().run(input)


@workflow.defn(name=NAME_WORKFLOW)
class NameWorkflow:
    """A name that is taken: the server runs one workflow of an id at a time. Terminating it sets the name free."""

    @workflow.run
    async def run(self) -> None:
        """Wait for ever."""
        await workflow.wait_condition(lambda: False)


@workflow.defn(name=NAME_WORKFLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedNameWorkflow(NameWorkflow):
    """The same for workers with a version; see `VersionedAgentWorkflow`."""

    @workflow.run
    async def run(self) -> None:
        """See `NameWorkflow.run`."""
        await super().run()
