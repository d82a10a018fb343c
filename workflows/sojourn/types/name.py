"""Names that more than one process must agree on."""

from datetime import datetime

from temporalio.common import SearchAttributeKey

TASK_QUEUE = "sojourn"
"""Default task queue of workers."""

SESSION_WORKFLOW = "SessionWorkflow"
AGENT_WORKFLOW = "AgentWorkflow"
ENVIRONMENT_WORKFLOW = "EnvironmentWorkflow"
NAME_WORKFLOW = "NameWorkflow"
VAULT_WORKFLOW = "VaultWorkflow"
KEY_WORKFLOW = "KeyWorkflow"
POLICY_WORKFLOW = "PolicyWorkflow"
EXPORT_WORKFLOW = "ExportWorkflow"
WORK_WORKFLOW = "WorkWorkflow"
CHECK_SANDBOX_WORKFLOW = "CheckSandboxWorkflow"
DEPLOYMENT_RUN_WORKFLOW = "DeploymentRunWorkflow"

USER_EVENTS_SIGNAL = "user_events"
WORK_OVER_SIGNAL = "work_over"

PAUSE_UPDATE = "pause"
RESUME_UPDATE = "resume"
ARCHIVE_UPDATE = "archive"
UPDATE_SESSION_UPDATE = "update_session"
CHANGE_RESOURCES_UPDATE = "change_resources"
UPDATE_AGENT_UPDATE = "update_agent"
ARCHIVE_AGENT_UPDATE = "archive_agent"
UPDATE_ENVIRONMENT_UPDATE = "update_environment"
ARCHIVE_ENVIRONMENT_UPDATE = "archive_environment"
HOLD_ENVIRONMENT_UPDATE = "hold_environment"
CLAIM_WORK_UPDATE = "claim_work"
ACK_WORK_UPDATE = "acknowledge_work"
HEARTBEAT_WORK_UPDATE = "heartbeat_work"
STOP_WORK_UPDATE = "stop_work"
UPDATE_WORK_UPDATE = "update_work"
UPDATE_VAULT_UPDATE = "update_vault"
ARCHIVE_VAULT_UPDATE = "archive_vault"
ADD_CREDENTIAL_UPDATE = "add_credential"
UPDATE_CREDENTIAL_UPDATE = "update_credential"
ARCHIVE_CREDENTIAL_UPDATE = "archive_credential"
DELETE_CREDENTIAL_UPDATE = "delete_credential"
REFRESH_CREDENTIAL_UPDATE = "refresh_credential"
VALIDATE_CREDENTIAL_UPDATE = "validate_credential"
RESEAL_VAULT_UPDATE = "reseal_vault"
CHANGE_POLICY_UPDATE = "change_policy"

STATUS_QUERY = "status"
PENDING_ACTIONS_QUERY = "pending_actions"
USAGE_QUERY = "usage"
AGENT_STATE_QUERY = "agent_state"
SEALED_QUERY = "sealed"
"""The active credentials of a vault with their sealed secrets."""

CALL_MODEL_ACTIVITY = "call_model"
RUN_TOOL_ACTIVITY = "run_tool"
COMPACT_CONTEXT_ACTIVITY = "compact_context"
LIST_MCP_TOOLS_ACTIVITY = "list_mcp_tools"
ABANDON_MCP_CALL_ACTIVITY = "abandon_mcp_call"
EXPORT_RUNS_ACTIVITY = "export_runs"
OPEN_WORKSPACE_ACTIVITY = "open_workspace"
CHECKPOINT_WORKSPACE_ACTIVITY = "checkpoint_workspace"
CHECK_SANDBOX_ACTIVITY = "check_sandbox"
NOTIFY_TURN_ACTIVITY = "notify_turn"
CHECK_DEPLOYMENT_ACTIVITY = "check_deployment"
PAUSE_DEPLOYMENT_ACTIVITY = "pause_deployment"
FETCH_TOKEN_ACTIVITY = "fetch_token"
PROBE_CREDENTIAL_ACTIVITY = "probe_credential"
RESEAL_SECRETS_ACTIVITY = "reseal_secrets"

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
RESOURCES_MEMO = "resources"
"""A `ResourceList`, where a session's resources have changed since its run began; the run's input has them before."""
AGENT_NAME_MEMO = "name"
AGENT_VERSION_MEMO = "version"
DEPLOYMENT_RUN_MEMO = "run"
"""A `DeploymentRunMemo` on the runs of deployments."""
ENVIRONMENT_MEMO = "environment"
"""An `EnvironmentMemo` on environments; an environment's id on the name that it holds."""
WORK_MEMO = "work"
"""A `WorkItem` on the workflows of work items."""
VAULT_MEMO = "vault"
"""A `Vault`, on vaults."""
CREDENTIAL_MEMO = "credential/"
"""How the keys begin, each with the id of a credential of the vault: a `Credential`, without its secrets. One for each,
so that a change writes one; and no sealed secrets, because every list of vaults brings all their memos along."""
POLICY_MEMO = "policy"
"""A `WorkspacePolicy` on the rules of a workspace."""
KEY_MEMO = "key"
"""A `KeyRecord` on API keys. It holds the hash of the secret, never the secret."""

STATUS_ATTRIBUTE = SearchAttributeKey.for_keyword("SojournStatus")
"""A `SessionStatus` value on sessions; ``active`` or ``archived`` on agents, environments and vaults; ``active``,
``paused`` or ``archived`` on deployments; ``pending``, ``started`` or ``failed`` on their runs."""
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

SANDBOX_ELSEWHERE = "SandboxElsewhere"
"""Application error type of work that needs a sandbox, on a worker that has none where another has."""

MODEL_ERROR = "ModelError"
"""Application error type of a failed model call; its detail is a `ModelFailure`."""
