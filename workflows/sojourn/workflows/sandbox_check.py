"""Asking the workers whether they can give a session the sandbox that it needs. Nothing is kept of it."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from sojourn.types.name import CHECK_SANDBOX_ACTIVITY, CHECK_SANDBOX_WORKFLOW, SANDBOX_ELSEWHERE
    from sojourn.types.workspace import CheckSandboxInput, CheckSandboxResult, sandbox_queue

_AT_ONCE = timedelta(seconds=5)
"""The client waits no longer."""
_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=5)


@workflow.defn(name=CHECK_SANDBOX_WORKFLOW)
class CheckSandboxWorkflow:
    """One question."""

    @workflow.run
    async def run(self, wanted: CheckSandboxInput) -> CheckSandboxResult:
        """Ask any worker, and one with a sandbox if it has none."""
        try:
            return await _ask(wanted, None)
        except ActivityError as error:
            if not (isinstance(error.cause, ApplicationError) and error.cause.type == SANDBOX_ELSEWHERE):
                raise
        return await _ask(wanted, sandbox_queue(workflow.info().task_queue))


async def _ask(wanted: CheckSandboxInput, queue: str | None) -> CheckSandboxResult:
    found: CheckSandboxResult = await workflow.execute_activity(
        CHECK_SANDBOX_ACTIVITY,
        wanted,
        result_type=CheckSandboxResult,
        task_queue=queue,
        schedule_to_close_timeout=_AT_ONCE,
        retry_policy=_RETRY,
        summary="ask for a sandbox",
    )
    return found
