"""The policy workflow: one entity for each workspace that has rules. They stand in its memo."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from sojourn.workflows.refusal import refuse

with workflow.unsafe.imports_passed_through():
    from sojourn.types.error import ConflictError, InvalidRequestError
    from sojourn.types.name import CHANGE_POLICY_UPDATE, POLICY_MEMO, POLICY_WORKFLOW
    from sojourn.types.policy import PolicyChange, PolicyInput, WorkspacePolicy


@workflow.defn(name=POLICY_WORKFLOW)
class PolicyWorkflow:
    """The rules of a workspace. It never ends: without it there would be fewer rules than before."""

    @workflow.init
    def __init__(self, input: PolicyInput) -> None:
        self._input = input
        self._policy = input.policy

    @workflow.run
    async def run(self, input: PolicyInput) -> None:
        """Live as long as the workspace."""
        await workflow.wait_condition(workflow.info().is_continue_as_new_suggested)
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._input.model_copy(update={"policy": self._policy}), memo=self._memo())

    @workflow.update(name=CHANGE_POLICY_UPDATE)
    def change(self, change: PolicyChange) -> WorkspacePolicy:
        """Change the rules. They hold from the next model step of every session on."""
        changed = change.applied(self._policy)
        if changed != self._policy:
            now = {"version": self._policy.version + 1, "updated_at": workflow.now()}
            self._policy = changed.model_copy(update=now)
            workflow.upsert_memo(self._memo())
        return self._policy

    @change.validator
    def _may_change(self, change: PolicyChange) -> None:
        if change.version is not None and change.version != self._policy.version:
            text = f"the rules are at version {self._policy.version}, not {change.version}"
            raise refuse(ConflictError(f"{text}; read them again and repeat the change"))
        try:
            change.applied(self._policy)
        except InvalidRequestError as error:
            raise refuse(error) from None

    def _memo(self) -> dict[str, WorkspacePolicy]:
        return {POLICY_MEMO: self._policy}


@workflow.defn(name=POLICY_WORKFLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedPolicyWorkflow(PolicyWorkflow):
    """The same for workers with a version; see `VersionedAgentWorkflow`."""

    @workflow.init
    def __init__(self, input: PolicyInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: PolicyInput) -> None:
        """See `PolicyWorkflow.run`."""
        await super().run(input)
