"""Names that more than one process must agree on."""

from datetime import datetime

from temporalio.common import SearchAttributeKey

TASK_QUEUE = "sojourn"
"""Default task queue of workers."""

SESSION_WORKFLOW = "SessionWorkflow"
AGENT_WORKFLOW = "AgentWorkflow"
ENVIRONMENT_WORKFLOW = "EnvironmentWorkflow"
NAME_WORKFLOW = "NameWorkflow"
KEY_WORKFLOW = "KeyWorkflow"
EXPORT_WORKFLOW = "ExportWorkflow"
DEPLOYMENT_RUN_WORKFLOW = "DeploymentRunWorkflow"

USER_EVENTS_SIGNAL = "user_events"

PAUSE_UPDATE = "pause"
RESUME_UPDATE = "resume"
ARCHIVE_UPDATE = "archive"
UPDATE_SESSION_UPDATE = "update_session"
UPDATE_AGENT_UPDATE = "update_agent"
ARCHIVE_AGENT_UPDATE = "archive_agent"
UPDATE_ENVIRONMENT_UPDATE = "update_environment"
ARCHIVE_ENVIRONMENT_UPDATE = "archive_environment"
HOLD_ENVIRONMENT_UPDATE = "hold_environment"

STATUS_QUERY = "status"
PENDING_ACTIONS_QUERY = "pending_actions"
USAGE_QUERY = "usage"
AGENT_STATE_QUERY = "agent_state"

CALL_MODEL_ACTIVITY = "call_model"
RUN_TOOL_ACTIVITY = "run_tool"
COMPACT_CONTEXT_ACTIVITY = "compact_context"
LIST_MCP_TOOLS_ACTIVITY = "list_mcp_tools"
ABANDON_MCP_CALL_ACTIVITY = "abandon_mcp_call"
EXPORT_RUNS_ACTIVITY = "export_runs"
OPEN_WORKSPACE_ACTIVITY = "open_workspace"
CHECKPOINT_WORKSPACE_ACTIVITY = "checkpoint_workspace"
CHECK_SANDBOX_ACTIVITY = "check_sandbox"
CHECK_DEPLOYMENT_ACTIVITY = "check_deployment"
PAUSE_DEPLOYMENT_ACTIVITY = "pause_deployment"

LOG_MEMO = "log"
"""Memo key under which the workflow says events. Nothing else may be read as a part of the log."""
TITLE_MEMO = "title"
METADATA_MEMO = "metadata"
CREATED_MEMO = "created"
"""When the first run began; the server itself tells only of the latest. Not set in a first run."""
ACCOUNT_MEMO = "account"
"""A `SessionAccount`, written with each idle and each update."""
START_MEMO = "start"
"""Marks the call that started a session whose id the caller has chosen; gone with the first run."""
QUEUED_MEMO = "queued"
"""About how many messages wait for their turn, in thousands; absent while there are few."""
AGENT_NAME_MEMO = "name"
AGENT_VERSION_MEMO = "version"
DEPLOYMENT_RUN_MEMO = "run"
"""A `DeploymentRunMemo` on the runs of deployments."""
ENVIRONMENT_MEMO = "environment"
"""An `EnvironmentMemo` on environments; an environment's id on the name that it holds."""
KEY_MEMO = "key"
"""A `KeyRecord` on API keys. It holds the hash of the secret, never the secret."""

STATUS_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournStatus")
"""A `SessionStatus` value on sessions; ``active`` or ``archived`` on agents and environments; ``active``, ``paused`` or
``archived`` on deployments; ``pending``, ``started`` or ``failed`` on their runs."""
STOP_REASON_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournStopReason")
NO_STOP_REASON = "none"
"""What a session without a stop reason shows, because a search attribute is never unset."""
AGENT_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournAgent")
WORKSPACE_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournWorkspace")
USER_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournUser")
EXPORT_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournExport")
"""An `ExportState` value on sessions and on the workflows that export them. Only who has it from the start may change
it: where it is not registered, writing it would fail the workflow task for ever."""
AGENT_VERSION_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournAgentVersion")
"""Number of the agent's version. What `EXPORT_ATTRIBUTE` says holds for it, and for those below."""
DEPLOYMENT_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournDeployment")
ENVIRONMENT_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournEnvironment")
CREATED_ATTRIBUTE = SearchAttributeKey.for_datetime("SojournCreated")
"""When the session was started, in whole milliseconds; the start of a workflow is that of its latest run."""

SEARCH_ATTRIBUTES: tuple[SearchAttributeKey[str] | SearchAttributeKey[datetime], ...] = (
    STATUS_ATTRIBUTE,
    STOP_REASON_ATTRIBUTE,
    AGENT_ATTRIBUTE,
    WORKSPACE_ATTRIBUTE,
    USER_ATTRIBUTE,
    EXPORT_ATTRIBUTE,
    AGENT_VERSION_ATTRIBUTE,
    CREATED_ATTRIBUTE,
    DEPLOYMENT_ATTRIBUTE,
    ENVIRONMENT_ATTRIBUTE,
)
"""What `sojourn setup` registers on a namespace. A server with an SQL database has room for ten keywords."""

STORE_KEY = "sojourn.store"
"""Key in a namespace's data under which the URL of its object store stands."""
STORE_MARK_KEY = "sojourn.store.mark"
"""Key under which the mark stands that the store holds."""

WORKSPACE_LOST = "WorkspaceLost"
"""Application error type of a call for a workspace that is not, or no longer, on this worker. Nothing has run."""

MODEL_ERROR = "ModelError"
"""Application error type of a failed model call; its detail is a `ModelFailure`."""
