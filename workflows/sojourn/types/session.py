"""What a session is: its owner, its status, and the data its workflow starts from and carries."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sojourn.types.account import Budget, SessionAccount
from sojourn.types.agent import AgentVersion
from sojourn.types.builtin import Place
from sojourn.types.environment import SandboxConfig
from sojourn.types.id import AgentId, DeploymentId, EnvironmentId, EventId, SessionId, VaultId, WorkId
from sojourn.types.mcp_state import McpState
from sojourn.types.permission import Permission, PermissionPolicy
from sojourn.types.resource import Resource
from sojourn.types.usage import Usage
from sojourn.types.wire import Metadata, Omitted, Unset, Wire
from sojourn.types.workspace import WorkspaceState

Title = Annotated[str, Field(max_length=1000)]
"""Long enough for people, and short enough to be kept in a memo, which the workflow writes twice."""


class Owner(Wire):
    """Who a session belongs to. To anybody else it does not exist."""

    workspace: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] = "default"
    user: Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")] = "default"

    def __init__(self, workspace: str = "default", user: str = "default", **extra: object) -> None:
        # Pydantic's own initialiser takes keywords only; ``Owner("acme", "ada")`` reads better.
        BaseModel.__init__(self, workspace=workspace, user=user, **extra)

    # Without this mark pydantic reads through `__init__` and forgets to be tolerant of additions.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


class EnvironmentConfig(Wire):
    """The session's own settings of its sandbox. Workers without one refuse anything but the empty one."""

    env_vars: dict[str, str] = {}
    """Variables of the agent's programs. They stand in the session's history."""
    working_dir: str | None = None
    """Where commands begin, below ``/workspace`` if it is relative; made if it is not there."""


class SessionStatus(StrEnum):
    """Where a session stands. The last three are final."""

    QUEUED = "queued"
    """Created; no turn has begun yet."""
    RUNNING = "running"
    """A turn is in progress."""
    IDLE = "idle"
    """Waiting for a message, or for answers to tool calls."""
    RESCHEDULING = "rescheduling"
    """A model call failed and will be tried again."""
    PAUSED = "paused"
    """Held by `pause`; what ran has been kept."""
    COMPLETED = "completed"
    FAILED = "failed"
    ARCHIVED = "archived"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self in (SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.ARCHIVED)


class EndTurn(Wire):
    """The agent has said what it had to say, or was interrupted."""

    type: Literal["end_turn"] = "end_turn"


class RequiresAction(Wire):
    """The session waits for answers to these tool calls."""

    type: Literal["requires_action"] = "requires_action"
    event_ids: tuple[EventId, ...]


class RetriesExhausted(Wire):
    """The model could not be reached, or the turn met a limit; the session can be used again."""

    type: Literal["retries_exhausted"] = "retries_exhausted"


class MaxTokens(Wire):
    """The model's answer was cut at its output limit."""

    type: Literal["max_tokens"] = "max_tokens"


class Refusal(Wire):
    """The model refused."""

    type: Literal["refusal"] = "refusal"


class BudgetReached(Wire):
    """The budget is used up, or the cost is unknown; the turn goes on when the budget is raised or removed."""

    type: Literal["budget_reached"] = "budget_reached"


StopReason = Annotated[
    EndTurn | RequiresAction | RetriesExhausted | MaxTokens | Refusal | BudgetReached, Field(discriminator="type")
]


ToolKind = Literal["function", "custom", "builtin", "mcp", "unknown"]
"""What a tool is: a Python function of the worker, the client's own, a built-in one, one of an MCP server, or none."""


class CallState(Wire):
    """One tool call of the current step, as far as it has come."""

    id: EventId
    name: str
    kind: ToolKind
    permission: Permission
    place: Annotated[Place | None, Omitted] = None
    idempotent: bool = False
    timeout: timedelta | None = None
    asked_at: datetime | None = None
    """When the wait for a custom tool's result began; its timeout counts from here."""
    approved: bool = False
    settled: bool = False
    mcp_server_name: Annotated[str, Omitted] = ""
    asked_by: Annotated[EventId, Omitted] = EventId("")
    """The call whose MCP server asks this question; empty for a call of the model."""
    queue: Annotated[str, Omitted] = ""
    """Task queue of the worker that can answer the question."""
    answered: Annotated[bool, Omitted] = False
    """Of a settled question: by the client, not by the end of its time."""

    @property
    def waits_for_client(self) -> bool:
        """Whether only the client can move it on."""
        ours = self.kind == "custom" or self.place == "client"
        return not self.settled and (ours or (self.permission == "ask" and not self.approved))


class TurnState(Wire):
    """A turn in progress, as carried by continue-as-new."""

    steps: int = 0
    usage: Usage = Usage()
    consumes: tuple[EventId, ...] = ()
    """Client events that the next model step is the first to show to the model."""
    calls: tuple[CallState, ...] = ()
    compact: Annotated[bool, Omitted] = False
    """The conversation fills the model's window and is to be compacted before the next model step."""
    notify: Annotated[bool, Omitted] = False
    """A hook wants to know when the turn ends."""


class SessionState(Wire):
    """What survives continue-as-new: ids, statuses and counters, no text."""

    seq: int
    user_events: int
    seen: tuple[str, ...] = ()
    """Digests of the client ids that are remembered (`sojourn.types.log`)."""
    queue: tuple[EventId, ...] = ()
    context: tuple[EventId, ...] = ()
    """`system.message` events that the next step takes along."""
    turns: int = 0
    usage: Usage = Usage()
    status: SessionStatus
    stop_reason: StopReason | None = None
    paused: bool = False
    turn: TurnState | None = None
    compact: Annotated[bool, Omitted] = False
    """What the last turn left to the next one; see `TurnState.compact`."""
    title: str | None = None
    metadata: Metadata = {}
    account: Annotated[SessionAccount | None, Omitted] = None
    """``None`` in what an earlier release left, whose cost is unknown."""
    work: Annotated[WorkId | None, Omitted] = None
    """The work item of a self-hosted environment that is in the queue or with a worker."""
    workspace: Annotated[WorkspaceState | None, Omitted] = None
    """``None`` while no tool has needed one."""
    mcp: Annotated[McpState | None, Omitted] = None
    """``None`` while no MCP server has been asked for its tools."""


class RollOver(Wire):
    """When to continue as new. The server's own suggestion always counts too."""

    max_events: int = Field(default=1500, ge=20)
    """History events; replay costs about 0.23 ms each (temporal.md §3.7)."""
    max_bytes: int = Field(default=2_000_000, ge=100_000)


class SessionInput(Wire):
    """What a `SessionWorkflow` run starts from."""

    session_id: SessionId
    owner: Owner
    agent: AgentVersion
    environment: EnvironmentConfig = EnvironmentConfig()
    environment_id: Annotated[EnvironmentId | None, Omitted] = None
    sandbox: Annotated[SandboxConfig | None, Unset] = None
    """The configuration of that environment when the session began; ``None`` without one."""
    deployment_id: Annotated[DeploymentId | None, Omitted] = None
    budget: Annotated[Budget | None, Omitted] = None
    """As it was when the run began."""
    vault_ids: Annotated[tuple[VaultId, ...], Omitted] = ()
    """Where its credentials are: the first vault that has one for a server or a variable counts."""
    permissions: PermissionPolicy = PermissionPolicy()
    interactive: Annotated[bool, Field(exclude_if=lambda value: value is True)] = True
    """Whether somebody is there to be asked; if not, what would be asked is denied."""
    skip_permissions: Annotated[bool, Omitted] = False
    """Allow all that operators do not deny. As it was when the run began."""
    title: Title | None = None
    metadata: Metadata = {}
    resources: Annotated[tuple[Resource, ...], Omitted] = ()
    """As they were when the run began."""
    state: SessionState | None = None
    """``None`` in the first run."""
    roll_over: RollOver = RollOver()


class UpdateSessionInput(Wire):
    """A change to a live session; what is ``None`` stays."""

    title: Annotated[Title | None, Unset] = None
    metadata: dict[str, str | None] | None = None
    """A merge patch: ``None`` as a value removes the key."""
    agent: AgentVersion | None = None
    """A new snapshot for the turns to come; only while no turn is in progress."""
    budget: Annotated[Budget | None, Omitted] = None
    """In place of the one the session was started with; more than what has been spent."""
    remove_budget: Annotated[bool, Omitted] = False
    """Lift the limit for good."""
    skip_permissions: Annotated[bool | None, Unset] = None
    """Allow all that operators do not deny, or no longer; from the next model step on."""


class ArchiveInput(Wire):
    """How a session is to be archived."""

    only_if_idle: bool = False
    """Refuse while a turn is in progress or about to begin. A turn that waits for the client or its budget is not."""


class StatusReport(Wire):
    """The exact live state, as the ``status`` query answers it."""

    status: SessionStatus
    stop_reason: StopReason | None = None
    turns: int = 0
    steps: int = 0
    """Model steps of the turn in progress."""
    queued: int = 0
    """Messages that wait for their turn."""


PendingKind = Literal["confirmation", "custom_tool_result", "tool_result"]


class PendingAction(Wire):
    """A tool call that waits for the client."""

    id: EventId
    name: str
    kind: PendingKind


class AgentState(Wire):
    """Which agent the session runs, and how much it has done."""

    agent: AgentVersion
    seq: int
    turns: int
    queued: int


class SessionResult(Wire):
    """How a session ended."""

    status: SessionStatus
    seq: int
    usage: Usage


class SessionInfo(Wire):
    """A session as lists and `get_session` show it. Read from the server; needs no worker."""

    id: SessionId
    owner: Owner
    agent_id: AgentId
    status: SessionStatus
    stop_reason: str | None = None
    """Type of the last stop reason, such as ``requires_action``."""
    title: str | None = None
    metadata: Metadata = {}
    created_at: datetime
    closed_at: datetime | None = None
    updated_at: datetime | None = None
    """Last idle, update or end that is known; ``None`` only from archives of release 0.1."""
    agent_version: int | None = None
    """``None`` where release 0.1 started it."""
    environment_id: EnvironmentId | None = None
    deployment_id: DeploymentId | None = None
    account: SessionAccount = SessionAccount()
    """As of the last idle or update."""
    resources: Annotated[tuple[Resource, ...] | None, Unset] = None
    """What is mounted, where that has changed since the session's latest run began; `SessionSnapshot` always tells."""


class SessionSnapshot(Wire):
    """A session with the agent that it runs."""

    info: SessionInfo
    agent: AgentVersion
    """Its definition may differ from the stored version of this number: sessions can override it."""
    resources: tuple[Resource, ...] = ()
    """What is mounted into its workspace."""
    vault_ids: tuple[VaultId, ...] = ()
