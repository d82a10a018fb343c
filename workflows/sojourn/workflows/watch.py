"""What operators see of a session: spans, counters and log lines. No commands, and nothing twice under replay."""

import logging
from typing import TYPE_CHECKING

from temporalio import workflow

from sojourn.workflows.call import Call

with workflow.unsafe.imports_passed_through():
    from sojourn.types import telemetry as names
    from sojourn.types.agent import AgentVersion
    from sojourn.types.event import ToolOutcome
    from sojourn.types.failure import ModelFailure
    from sojourn.types.id import EventId, SessionId
    from sojourn.types.session import SessionStatus
    from sojourn.types.usage import Usage

if TYPE_CHECKING:
    from datetime import timedelta

    from opentelemetry.context import Context

    from sojourn.workflows.span import TurnSpan


def _tracing() -> "type[TurnSpan] | None":
    """The spans of turns; ``None`` without OpenTelemetry's SDK, which the extra ``otel`` brings."""
    try:
        with workflow.unsafe.imports_passed_through():
            from sojourn.workflows.span import TurnSpan
    except ImportError:
        return None
    return TurnSpan


_TURN_SPAN = _tracing()

logger = workflow.LoggerAdapter(logging.getLogger("sojourn.workflows"), None)
logger.workflow_info_on_message = False

BUDGET = "budget"
MAX_STEPS = "max_steps"
TOOL_TIMEOUT = "tool_timeout"
CUSTOM_TOOL_TIMEOUT = "custom_tool_timeout"
MODEL_ATTEMPTS = "model_attempts"


class Watch:
    """Observes one run of a session's workflow."""

    def __init__(self, session_id: SessionId, workspace: str, agent: AgentVersion) -> None:
        self._session_id = session_id
        self._workspace = workspace
        self._agent = agent
        self._callers: dict[EventId, Context] = {}
        self._turn: TurnSpan | None = None
        self._error_type: str | None = None

    # --- turns -----------------------------------------------------------------------------------------------------

    def heard(self, message: EventId) -> None:
        """A message came; its sender's span becomes the parent of its turn."""
        if _TURN_SPAN is not None and (caller := _TURN_SPAN.sender()) is not None:
            self._callers[message] = caller

    def turn_begins(self, agent: AgentVersion, *, turn: int, message: EventId | None, continues: bool) -> None:
        """A turn begins, or goes on from the run before. A turn that has a span already keeps it."""
        self._agent = agent
        caller = self._callers.pop(message, None) if message is not None else None
        if _TURN_SPAN is None or self._turn is not None:
            return
        attributes = {
            names.OPERATION: names.INVOKE_AGENT,
            **names.session_attributes(self._session_id, self._workspace, agent),
            names.TURN: turn,
        }
        name = f"{names.INVOKE_AGENT} {agent.name}"
        self._turn = _TURN_SPAN.begin(name, attributes, caller=caller, continues=continues)

    def turn_ends(self, reason: str, *, steps: int, usage: Usage) -> None:
        """A turn is over."""
        self._count(names.TURNS_METRIC, {names.STOP_REASON: reason, **self._labels()})
        if self._turn is not None:
            attributes: dict[str, str | int] = {
                names.STOP_REASON: reason,
                names.STEPS: steps,
                names.INPUT_TOKENS: usage.input_tokens,
                names.OUTPUT_TOKENS: usage.output_tokens,
            }
            self._turn.end(attributes, error_type=self._error_type)
        self._turn, self._error_type = None, None

    def rolls_over(self) -> None:
        """The run gives way to the next, in which a turn in progress goes on with a span of its own."""
        if self._turn is not None:
            self._turn.suspend({names.STOP_REASON: "continued"})

    def interrupted(self) -> None:
        """A client ended a turn in progress."""
        self._count(names.INTERRUPTS_METRIC, self._labels())
        self._log(logging.INFO, "turn interrupted")

    # --- model and tools -------------------------------------------------------------------------------------------

    def model_failed(self, failure: ModelFailure, *, step: EventId, attempt: int, retry_in: "timedelta | None") -> None:
        """A model call failed; ``retry_in`` is ``None`` if it is not tried again."""
        self._count(names.MODEL_FAILURES_METRIC, {names.KIND: failure.kind, **self._labels()})
        then = "not tried again" if retry_in is None else f"next attempt in {retry_in.total_seconds():g} s"
        provider = failure.provider or self._agent.definition.model.provider
        self._log(
            logging.WARNING, "model call failed: %s (%s); %s", failure.kind, provider, then, step=step, attempt=attempt
        )

    def tool_settled(self, call: Call, outcome: ToolOutcome) -> None:
        """A tool call has its one result."""
        self._count(names.TOOL_CALLS_METRIC, {names.TOOL_NAME: call.name, names.OUTCOME: outcome, **self._labels()})
        if outcome == "timed_out":
            limit = CUSTOM_TOOL_TIMEOUT if call.kind == "custom" else TOOL_TIMEOUT
            self.limit_met(limit, tool=call.name, tool_use_id=call.id)
        elif outcome == "unknown":
            self._log(
                logging.WARNING, "tool call lost, outcome unknown: %s", call.name, tool=call.name, tool_use_id=call.id
            )

    # --- ends ------------------------------------------------------------------------------------------------------

    def limit_met(self, limit: str, **ids: str) -> None:
        """Something took as long, or as often, as the agent's limits allow."""
        self._count(names.LIMITS_METRIC, {names.LIMIT: limit, **self._labels()})
        self._log(logging.WARNING, "limit met: %s", limit, **ids)

    def turn_failed(self, error_type: str) -> None:
        """The turn in progress cannot go on."""
        self._error_type = error_type
        self._log(logging.WARNING, "turn failed: %s", error_type)

    def session_ended(self, status: SessionStatus) -> None:
        """The session is over."""
        level = logging.ERROR if status is SessionStatus.FAILED else logging.INFO
        self._log(level, "session %s", status.value)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _labels(self) -> dict[str, str]:
        # Few values each: no ids of sessions among the labels of counters.
        model = self._agent.definition.model
        return {
            names.AGENT_NAME: self._agent.name,
            names.PROVIDER: names.provider_name(model.provider),
            names.REQUEST_MODEL: model.model,
        }

    def _count(self, metric: str, labels: dict[str, str]) -> None:
        workflow.metric_meter().create_counter(metric).add(1, labels)

    def _log(self, level: int, message: str, *arguments: object, **ids: str | int) -> None:
        known = {"session_id": self._session_id, "workspace": self._workspace, "agent_id": self._agent.id}
        logger.log(level, message, *arguments, extra={**known, **ids})
