"""The run of a deployment: one session is started, or it is written down why not.

The id of the session is derived from the run's, so that a run starts one session however often it is tried. What came
of it stands in the memo, where it can be read without a worker.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from sojourn.types.id import derived_event_id, is_scheduled_run, run_session_id
    from sojourn.types.name import (
        CHECK_DEPLOYMENT_ACTIVITY,
        DEPLOYMENT_RUN_MEMO,
        DEPLOYMENT_RUN_WORKFLOW,
        PAUSE_DEPLOYMENT_ACTIVITY,
        SESSION_WORKFLOW,
        STATUS_ATTRIBUTE,
        USER_EVENTS_SIGNAL,
    )
    from sojourn.types.record import UserEvents
    from sojourn.types.schedule import (
        CheckDeploymentInput,
        CheckDeploymentResult,
        DeploymentRunInput,
        DeploymentRunMemo,
        PauseDeploymentInput,
        PauseError,
        RunError,
    )
    from sojourn.types.session import SessionInput
    from sojourn.types.start import TASK_TIMEOUT, start_attributes, start_memo, start_summary

_AT_ONCE = timedelta(seconds=10)
"""Of one attempt to ask the server for something."""

_CHECK = timedelta(minutes=10)
_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=60))


@workflow.defn(name=DEPLOYMENT_RUN_WORKFLOW)
class DeploymentRunWorkflow:
    """One run. It takes milliseconds and ends on the version of the worker that began it."""

    @workflow.init
    def __init__(self, input: DeploymentRunInput) -> None:
        self._deployment = input.deployment
        session_id = run_session_id(workflow.info().workflow_id)
        sent = (
            event.model_copy(update={"id": derived_event_id(session_id, f"initial/{place}")})
            for place, event in enumerate(input.deployment.initial_events)
        )
        self._first = UserEvents(sent=tuple(sent))
        self._session = SessionInput(
            session_id=session_id,
            owner=input.deployment.owner,
            agent=input.deployment.agent,
            environment_id=input.deployment.environment_id,
            deployment_id=input.deployment.id,
            budget=input.deployment.budget,
            vault_ids=input.deployment.vault_ids,
            title=input.deployment.name,
        )

    @workflow.run
    async def run(self, input: DeploymentRunInput) -> DeploymentRunMemo:
        """Start the session, or see to it that the deployment rests if the next runs would fail too."""
        error = self._refusal() or await self._missing()
        if error is None:
            error = await self._start()
        outcome = DeploymentRunMemo(
            deployment_id=self._deployment.id,
            agent_id=self._deployment.agent.id,
            agent_version=self._deployment.agent.version,
            session_id=None if error else self._session.session_id,
            error=error,
        )
        workflow.upsert_memo({DEPLOYMENT_RUN_MEMO: outcome})
        workflow.upsert_search_attributes([STATUS_ATTRIBUTE.value_set("failed" if error else "started")])
        if error is not None and error.pauses:
            await self._pause(error)
        return outcome

    def _refusal(self) -> RunError | None:
        """Why the run comes at the wrong time."""
        if self._deployment.archived_at is not None:
            return _rejected(f"deployment {self._deployment.id!r} is archived")
        schedule = self._deployment.schedule
        waited = workflow.now() - workflow.info().workflow_start_time
        by_schedule = is_scheduled_run(workflow.info().workflow_id)
        if by_schedule and schedule is not None and waited > schedule.patience:
            return _rejected(f"no worker took the run for {waited.total_seconds():.0f} s, until the next one was due")
        return None

    async def _missing(self) -> RunError | None:
        """What the run needs and is there no more."""
        wanted = CheckDeploymentInput(
            workspace=self._deployment.owner.workspace,
            agent_id=self._deployment.agent.id,
            environment_id=self._deployment.environment_id,
            vault_ids=self._deployment.vault_ids,
        )
        try:
            found: CheckDeploymentResult = await workflow.execute_activity(
                CHECK_DEPLOYMENT_ACTIVITY,
                wanted,
                result_type=CheckDeploymentResult,
                start_to_close_timeout=_AT_ONCE,
                schedule_to_close_timeout=_CHECK,
                retry_policy=_RETRY,
                summary="look for agent and environment",
            )
        except ActivityError as error:
            return _unknown(error)
        self._session = self._session.model_copy(update={"sandbox": found.sandbox})
        return found.error

    async def _start(self) -> RunError | None:
        try:
            session = await workflow.start_child_workflow(
                SESSION_WORKFLOW,
                self._session,
                id=f"{self._session.owner.workspace}/{self._session.session_id}",
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                search_attributes=start_attributes(self._session, self._first, now=workflow.now()),
                memo=start_memo(self._session),
                task_timeout=TASK_TIMEOUT,
                static_summary=start_summary(self._session),
            )
        except WorkflowAlreadyStartedError:
            # An operator has had the same run made up for a second time.
            return None
        except FailureError as error:
            return _unknown(error)
        try:
            await session.signal(USER_EVENTS_SIGNAL, self._first)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            # Somebody has ended or deleted it in the meantime.
            workflow.logger.info("session %s has ended before it got its first events", self._session.session_id)
        return None

    async def _pause(self, error: RunError) -> None:
        await workflow.execute_activity(
            PAUSE_DEPLOYMENT_ACTIVITY,
            PauseDeploymentInput(
                workspace=self._deployment.owner.workspace,
                deployment_id=self._deployment.id,
                changes=self._deployment.changes,
                error=PauseError(type=error.type),
            ),
            start_to_close_timeout=_AT_ONCE,
            retry_policy=_RETRY,
            summary=f"pause the deployment: {error.type}",
        )


def _rejected(message: str) -> RunError:
    return RunError(type="session_creation_rejected_error", message=message)


def _unknown(error: FailureError) -> RunError:
    """Neither agent nor environment, unless an operator has cancelled the run, which then ends as cancelled."""
    if is_cancelled_exception(error):
        raise error
    cause = error.cause
    message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
    return RunError(type="unknown_error", message=" ".join(message.split())[:300])
