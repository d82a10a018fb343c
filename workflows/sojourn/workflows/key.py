"""The key workflow: an API key that holds. What it opens stands in its memo; terminating it revokes the key."""

from temporalio import workflow
from temporalio.common import VersioningBehavior

with workflow.unsafe.imports_passed_through():
    from sojourn.types.name import KEY_WORKFLOW


@workflow.defn(name=KEY_WORKFLOW)
class KeyWorkflow:
    """One API key. Creating, reading and revoking it need no worker."""

    @workflow.run
    async def run(self) -> None:
        """Wait for ever; the server ends it when the key expires."""
        await workflow.wait_condition(lambda: False)


@workflow.defn(name=KEY_WORKFLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedKeyWorkflow(KeyWorkflow):
    """The same for workers with a version; see `VersionedAgentWorkflow`."""

    @workflow.run
    async def run(self) -> None:
        """See `KeyWorkflow.run`."""
        await super().run()
