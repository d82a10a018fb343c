"""Deployments: an agent with its first messages and, if it has one, the schedule by which sessions of it start.

Not to be confused with the deployments of workers (`sojourn deployments`): these are Managed Agents' (API §1.10).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from sojourn.types.account import Budget
from sojourn.types.agent import AgentVersion
from sojourn.types.cron import Cron
from sojourn.types.environment import SandboxConfig
from sojourn.types.error import InvalidRequestError
from sojourn.types.event import SystemMessage, UserDefineOutcome, UserMessage
from sojourn.types.id import AgentId, DeploymentId, DeploymentRunId, EnvironmentId, SessionId, VaultId
from sojourn.types.session import Owner
from sojourn.types.vault import VaultIds
from sojourn.types.wire import Metadata, Omitted, Unset, Wire

MAX_DEPLOYMENTS = 1000
"""In a workspace; archived ones do not count."""

RunErrorType = Literal[
    "agent_archived_error",
    "environment_archived_error",
    "environment_not_found_error",
    "file_not_found_error",
    "mcp_egress_blocked_error",
    "memory_store_archived_error",
    "organization_disabled_error",
    "self_hosted_resources_unsupported_error",
    "session_creation_rejected_error",
    "session_rate_limited_error",
    "session_resource_not_found_error",
    "skill_not_found_error",
    "unknown_error",
    "vault_archived_error",
    "vault_not_found_error",
    "workspace_archived_error",
]
"""All that the API knows; here arise those about agents, environments,
vaults and refused sessions, and unknown ones."""

TriggerType = Literal["schedule", "manual"]
DeploymentStatus = Literal["active", "paused"]


def _expression(text: str) -> str:
    Cron.parse(text)
    return text


def _zone(name: str) -> str:
    # Go's library, which Temporal asks, would take the server's own zone.
    if name == "Local":
        raise ValueError("'Local' is no time zone; name one, such as Europe/Berlin or UTC")
    return name


class CronSchedule(Wire):
    """When a deployment runs by itself, on the clocks of a time zone.

    Where clocks go forward, times that do not exist are left out; where they go back, times that exist twice run twice.
    """

    type: Literal["cron"] = "cron"
    expression: Annotated[str, AfterValidator(_expression)]
    """Five fields as POSIX has them; names of months and weekdays are understood too."""
    timezone: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"), AfterValidator(_zone)]
    """IANA name, such as ``Europe/Berlin`` or ``UTC``; the server knows which there are."""

    @property
    def cron(self) -> Cron:
        """The expression as read."""
        return Cron.parse(self.expression)

    @property
    def jitter(self) -> timedelta:
        """How much later than due a run may start, so that not all schedules of the world start at once."""
        return min(max(self.cron.shortest_gap * 0.15, timedelta(seconds=5)), timedelta(minutes=9))

    @property
    def patience(self) -> timedelta:
        """How long a run may wait for a server or a worker that is away: until the next one is due, a day at most.

        After an outage the last run is made up for, and not all of them at once.
        """
        return self.cron.shortest_gap

    def due(self, at: datetime) -> datetime:
        """When a run is due that starts at this time, jitter included."""
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            # This machine has no such data; the server has.
            return at
        cron, jitter = self.cron, self.jitter
        minute = at.replace(second=0, microsecond=0)
        while at - minute <= jitter:
            if cron.matches(minute.astimezone(zone)):
                return minute
            minute -= timedelta(minutes=1)
        return at


class AgentRef(Wire):
    """An agent, at one of its versions."""

    type: Literal["agent"] = "agent"
    id: AgentId
    version: Annotated[int | None, Field(ge=1)] = None
    """``None`` takes the latest, once: what comes later changes nothing until the deployment is updated."""


def _agent(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


AgentChoice = Annotated[AgentRef, BeforeValidator(_agent)]

InitialEvent = Annotated[UserMessage | UserDefineOutcome | SystemMessage, Field(discriminator="type")]
InitialEvents = Annotated[tuple[InitialEvent, ...], Field(min_length=1, max_length=50)]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")]
Description = Annotated[str, Field(max_length=2048)]


class DeploymentDefinition(Wire):
    """A new deployment. ``agent`` takes an id as text, too."""

    name: Name
    agent: AgentChoice
    environment_id: EnvironmentId | None = None
    initial_events: InitialEvents
    """What each session gets first."""
    schedule: CronSchedule | None = None
    """``None`` runs on request only."""
    budget: Budget | None = None
    """Of each session."""
    vault_ids: VaultIds = ()
    """Of each session; the first that has a credential for a server or a variable counts."""
    description: Description | None = None
    metadata: Metadata = {}

    if TYPE_CHECKING:
        # What the validators take, for type checkers, which see only what the fields hold.
        def __init__(
            self,
            *,
            name: str,
            agent: AgentRef | AgentId | str,
            initial_events: Sequence[InitialEvent],
            environment_id: EnvironmentId | str | None = None,
            schedule: CronSchedule | None = None,
            budget: Budget | None = None,
            vault_ids: Sequence[VaultId | str] = (),
            description: str | None = None,
            metadata: Mapping[str, str] = ...,
        ) -> None: ...


class DeploymentChange(Wire):
    """A change to a deployment. What is left out stays; so does what is ``None``, unless it says otherwise."""

    name: Name | None = None
    agent: AgentChoice | None = None
    """Without a version it takes the latest, also of the same agent."""
    environment_id: EnvironmentId | None = None
    initial_events: InitialEvents | None = None
    schedule: CronSchedule | None = None
    """``None`` runs on request only."""
    budget: Budget | None = None
    """``None`` lets sessions to come cost what they cost."""
    vault_ids: VaultIds | None = None
    """Replaces all of them."""
    description: Description | None = None
    """``None`` or an empty text removes it."""
    metadata: dict[str, str | None] | None = None
    """A merge patch: ``None`` as a value removes the key."""

    def applied(self, stored: "StoredDeployment", agent: AgentVersion | None) -> "StoredDeployment":
        """The deployment after the change.

        Args:
            stored: The deployment as it is.
            agent: The version that ``self.agent`` names.

        Raises:
            InvalidRequestError: The metadata would be too many.
        """
        kept = ("name", "environment_id", "initial_events", "vault_ids")
        changes: dict[str, object] = {key: value for key in kept if (value := getattr(self, key)) is not None}
        if agent is not None:
            changes["agent"] = agent
        for name in ("schedule", "budget"):
            if name in self.model_fields_set:
                changes[name] = getattr(self, name)
        if "description" in self.model_fields_set:
            changes["description"] = self.description or None
        if self.metadata:
            changes["metadata"] = _patched(stored.metadata, self.metadata)
        return stored.model_copy(update=changes)


_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(Metadata)


def _patched(metadata: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    merged = {key: value for key, value in {**metadata, **patch}.items() if value is not None}
    try:
        return _METADATA.validate_python(merged)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(("metadata", *map(str, first["loc"])))
        raise InvalidRequestError(f"{path}: {first['msg'][:1].lower()}{first['msg'][1:]}", param=path) from None


class ManualPause(Wire):
    """Somebody paused it."""

    type: Literal["manual"] = "manual"


class PauseError(Wire):
    """The kind of error that paused it."""

    type: RunErrorType


class ErrorPause(Wire):
    """A run failed in a way that the next ones would fail too."""

    type: Literal["error"] = "error"
    error: PauseError


PausedReason = Annotated[ManualPause | ErrorPause, Field(discriminator="type")]


class StoredDeployment(Wire):
    """A deployment as its schedule holds it, which is what its runs start from."""

    id: DeploymentId
    owner: Owner
    """Whose sessions it starts."""
    name: str
    agent: AgentVersion
    environment_id: EnvironmentId | None = None
    initial_events: tuple[InitialEvent, ...]
    schedule: CronSchedule | None = None
    budget: Budget | None = None
    vault_ids: Annotated[VaultIds, Omitted] = ()
    description: str | None = None
    metadata: Metadata = {}
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None
    paused_reason: PausedReason | None = None
    changes: Annotated[tuple[str, ...], Omitted] = ()
    """Ids of the last changes, by which whoever made one sees that it holds."""


class Deployment(Wire):
    """A deployment as users see it."""

    id: DeploymentId
    owner: Owner
    name: str
    agent: AgentRef
    """With its version."""
    environment_id: EnvironmentId | None = None
    initial_events: tuple[InitialEvent, ...]
    schedule: CronSchedule | None = None
    upcoming_runs_at: tuple[datetime, ...] = ()
    """When the next five runs by schedule are due, or would be if it were not paused."""
    last_run_at: datetime | None = None
    """When the last run by schedule started."""
    budget: Budget | None = None
    vault_ids: tuple[VaultId, ...] = ()
    description: str | None = None
    metadata: Metadata = {}
    status: DeploymentStatus
    """``active`` too when it is archived."""
    paused_reason: PausedReason | None = None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None


class RunError(Wire):
    """Why a run started no session."""

    type: RunErrorType
    message: str

    @property
    def pauses(self) -> bool:
        """Whether the next runs would fail too."""
        return self.type not in ("session_creation_rejected_error", "session_rate_limited_error")


class DeploymentRunInput(Wire):
    """What a `DeploymentRunWorkflow` starts from: the deployment as it was when the run began."""

    deployment: StoredDeployment


class CheckDeploymentInput(Wire):
    """What a run needs, for the activity `check_deployment`."""

    workspace: str
    agent_id: AgentId
    environment_id: EnvironmentId | None = None
    vault_ids: Annotated[tuple[VaultId, ...], Omitted] = ()


class CheckDeploymentResult(Wire):
    """What of it is there no more; ``None`` if nothing is wrong."""

    error: RunError | None = None
    sandbox: Annotated[SandboxConfig | None, Unset] = None
    """The configuration of the environment now; ``None`` without one."""


class PauseDeploymentInput(Wire):
    """What the activity `pause_deployment` pauses, and why."""

    workspace: str
    deployment_id: DeploymentId
    changes: tuple[str, ...]
    """Those that the run has seen; after a later one the error may not hold any more, and nothing is paused."""
    error: PauseError


class DeploymentRunMemo(Wire):
    """What a run shows, so that it can be read without a worker. Neither session nor error: it has not got so far."""

    deployment_id: DeploymentId
    agent_id: AgentId
    agent_version: int
    session_id: SessionId | None = None
    error: RunError | None = None


class ScheduleTrigger(Wire):
    """The schedule started it."""

    type: Literal["schedule"] = "schedule"
    scheduled_at: datetime
    """When it was due; it may have started a little later."""


class ManualTrigger(Wire):
    """Somebody asked for it."""

    type: Literal["manual"] = "manual"


class DeploymentRun(Wire):
    """One run of a deployment: the start of one session, or why there is none.

    It has neither while no worker has taken it.
    """

    id: DeploymentRunId
    deployment_id: DeploymentId
    agent: AgentRef
    trigger: Annotated[ScheduleTrigger | ManualTrigger, Field(discriminator="type")]
    session_id: SessionId | None = None
    error: RunError | None = None
    created_at: datetime
