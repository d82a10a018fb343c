"""Names of what is measured: OpenTelemetry's conventions for generative AI where they have one, ours where not.

Spans: ``invoke_agent AGENT`` for a turn, ``chat MODEL`` for each attempt of a model call, ``execute_tool TOOL`` for
each attempt of a tool call. None of them holds a prompt, an answer, arguments or results.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sojourn.types.agent import AgentVersion
    from sojourn.types.id import SessionId

TRACER = "sojourn"

OPERATION = "gen_ai.operation.name"
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"

PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"
CONVERSATION = "gen_ai.conversation.id"
AGENT_ID = "gen_ai.agent.id"
AGENT_NAME = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_CALL = "gen_ai.tool.call.id"
ERROR_TYPE = "error.type"

SESSION = "sojourn.session.id"
WORKSPACE = "sojourn.workspace"
TURN = "sojourn.turn"
STEP = "sojourn.step"
STEPS = "sojourn.steps"
ATTEMPT = "sojourn.attempt"
"""Counts the visible attempts of a model step, and the attempts of a tool call, from 1."""
TOOL_USE = "sojourn.tool_use.id"
STOP_REASON = "sojourn.stop_reason"
OUTCOME = "sojourn.outcome"
KIND = "sojourn.kind"
LIMIT = "sojourn.limit"

TOKEN_USAGE_METRIC = "gen_ai.client.token.usage"
DURATION_METRIC = "gen_ai.client.operation.duration"
TURNS_METRIC = "sojourn.turns"
TOOL_CALLS_METRIC = "sojourn.tool.calls"
MODEL_FAILURES_METRIC = "sojourn.model.failures"
INTERRUPTS_METRIC = "sojourn.interrupts"
LIMITS_METRIC = "sojourn.limits"

HISTOGRAM_BUCKETS = {
    TOKEN_USAGE_METRIC: [float(4**power) for power in range(14)],
    DURATION_METRIC: [0.01 * 2**power for power in range(14)],
}
"""The boundaries that the conventions recommend."""

_PROVIDERS = {"google": "gcp.gemini"}


def provider_name(provider: str) -> str:
    """The provider as the conventions call it."""
    return _PROVIDERS.get(provider, provider)


def session_attributes(session_id: "SessionId", workspace: str, agent: "AgentVersion") -> dict[str, str | int]:
    """What every span of a session says about it."""
    return {
        CONVERSATION: session_id,
        SESSION: session_id,
        WORKSPACE: workspace,
        AGENT_ID: agent.id,
        AGENT_NAME: agent.name,
        AGENT_VERSION: str(agent.version),
        PROVIDER: provider_name(agent.definition.model.provider),
        REQUEST_MODEL: agent.definition.model.model,
    }
