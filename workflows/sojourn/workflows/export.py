"""Exporting closed runs to the archive, from workflows: never awaited by a turn, and tried until it succeeds."""

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from sojourn.types.export import ExportInput, ExportResult, ExportState
    from sojourn.types.id import export_workflow_id
    from sojourn.types.name import EXPORT_ATTRIBUTE, EXPORT_RUNS_ACTIVITY, EXPORT_WORKFLOW

_TIMEOUT = timedelta(hours=1)
"""Of one attempt. It ends at once where the store refuses, and waits for the end of the session that it exports."""

_HEARTBEAT_TIMEOUT = timedelta(seconds=10)

_AT_FIRST = RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=3, maximum_attempts=4)
"""About three seconds. An export that needs longer is shown as failing."""

_UNTIL_IT_SUCCEEDS = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=60))


class Exporter:
    """Exports closed runs and shows how that goes.

    Attributes:
        trouble: Why the export does not succeed, in one line; empty while there is nothing to say.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.trouble = ""
        self._on_change = on_change

    async def export(self, request: ExportInput) -> ExportResult:
        """Export until it has succeeded. Costs a healthy session one activity."""
        try:
            result = await _attempts(request, _AT_FIRST)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._show(ExportState.FAILING, trouble=_reason(error))
            result = await _attempts(request, _UNTIL_IT_SUCCEEDS)
        if result.outcome == "stored":
            self._show(ExportState.STORED)
        elif result.outcome == "no_store":
            self._show(ExportState.NONE)
        return result

    def _show(self, state: ExportState, *, trouble: str = "") -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_change()
        # Only where it has been set from the start is it known to be registered.
        if workflow.info().typed_search_attributes.get(EXPORT_ATTRIBUTE) not in (None, state.value):
            workflow.upsert_search_attributes([EXPORT_ATTRIBUTE.value_set(state.value)])


async def start_final_export(workflow_id: str) -> None:
    """See to the export of this run, which is about to end; durable when this returns.

    The child outlives the session. It waits for the session's end by itself.
    """
    shown = workflow.info().typed_search_attributes.get(EXPORT_ATTRIBUTE)
    pairs = [SearchAttributePair(EXPORT_ATTRIBUTE, shown)] if shown is not None else []
    try:
        await workflow.start_child_workflow(
            EXPORT_WORKFLOW,
            ExportInput(workflow_id=workflow_id, run_id=workflow.info().run_id, final=True),
            id=export_workflow_id(workflow_id),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            search_attributes=TypedSearchAttributes(pairs),
            static_summary=f"export of {workflow_id}",
        )
    except WorkflowAlreadyStartedError:
        # Somebody exports it by hand.
        return


def _attempts(request: ExportInput, retry: RetryPolicy) -> workflow.ActivityHandle[ExportResult]:
    return workflow.start_activity(
        EXPORT_RUNS_ACTIVITY,
        request,
        result_type=ExportResult,
        start_to_close_timeout=_TIMEOUT,
        heartbeat_timeout=_HEARTBEAT_TIMEOUT,
        retry_policy=retry,
        summary="export to the archive",
    )


def _reason(error: ActivityError) -> str:
    cause = error.cause
    message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
    return " ".join(message.split())[:300]


@workflow.defn(name=EXPORT_WORKFLOW)
class ExportWorkflow:
    """Exports a session that has ended, or by hand one that goes on. Ends when everything is in the archive."""

    @workflow.init
    def __init__(self, input: ExportInput) -> None:
        self._input = input
        self._exporter = Exporter(self._show)

    @workflow.run
    async def run(self, input: ExportInput) -> ExportResult:
        """Export until it has succeeded."""
        return await self._exporter.export(input)

    def _show(self) -> None:
        trouble = self._exporter.trouble
        what = f"export of `{self._input.workflow_id}`"
        workflow.set_current_details(f"{what} fails: {trouble}\n\nIt is tried again." if trouble else what)
