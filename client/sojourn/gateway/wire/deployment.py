"""Deployments and their runs on the wire (Managed Agents API §1.10)."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sojourn.gateway.wire.account import BudgetLimit, wire_budget
from sojourn.gateway.wire.agent import Description, MetadataPatch, Name
from sojourn.gateway.wire.fault import NoneYet
from sojourn.gateway.wire.send import SendMessage, SendOutcome, SendSystemMessage
from sojourn.types import (
    AgentId,
    AgentRef,
    CronSchedule,
    DeploymentChange,
    DeploymentDefinition,
    MessageBlock,
    SystemMessage,
    TextBlock,
    UserMessage,
)
from sojourn.types import Deployment as StoredDeployment
from sojourn.types import DeploymentRun as StoredRun
from sojourn.types.schedule import (
    DeploymentStatus,
    InitialEvent,
    ManualTrigger,
    PausedReason,
    RunError,
    ScheduleTrigger,
)
from sojourn.types.vault import MAX_VAULTS
from sojourn.types.wire import Metadata, Wire

Id = Annotated[str, Field(min_length=1)]
WireVaultIds = Annotated[tuple[Id, ...], Field(max_length=MAX_VAULTS)]


class DeployedAgent(Wire):
    """An agent, at a version or the latest, which is then kept to."""

    type: Literal["agent"]
    id: Id
    version: Annotated[int | None, Field(ge=1)] = None

    def stored(self) -> AgentRef:
        return AgentRef(id=AgentId(self.id), version=self.version)


def _agent(value: Any) -> Any:
    return {"type": "agent", "id": value} if isinstance(value, str) else value


AgentField = Annotated[DeployedAgent, BeforeValidator(_agent, json_schema_input_type=str | DeployedAgent)]
Sendable = Annotated[SendMessage | SendOutcome | SendSystemMessage, Field(discriminator="type")]
FirstEvents = Annotated[tuple[Sendable, ...], Field(min_length=1, max_length=50)]


class CreateDeployment(Wire):
    """A new deployment."""

    name: Name
    agent: AgentField
    environment_id: Id
    initial_events: FirstEvents
    schedule: CronSchedule | None = None
    budget: BudgetLimit | None = None
    description: Description | None = None
    metadata: Metadata | None = None
    resources: NoneYet = ()
    vault_ids: WireVaultIds | None = None

    def stored(self) -> DeploymentDefinition:
        return DeploymentDefinition(
            name=self.name,
            agent=self.agent.stored(),
            environment_id=self.environment_id,
            initial_events=_events(self.initial_events),
            schedule=self.schedule,
            budget=self.budget.stored() if self.budget else None,
            vault_ids=self.vault_ids or (),
            description=self.description,
            metadata=self.metadata or {},
        )


class UpdateDeployment(Wire):
    """A change to a deployment. What is left out stays; ``null`` clears schedule, budget, vaults and description."""

    name: Name | None = None
    agent: AgentField | None = None
    environment_id: Id | None = None
    initial_events: FirstEvents | None = None
    schedule: CronSchedule | None = None
    budget: BudgetLimit | None = None
    description: Description | None = None
    metadata: MetadataPatch | None = None
    resources: NoneYet = ()
    vault_ids: WireVaultIds | None = None

    def stored(self) -> DeploymentChange:
        given: dict[str, object] = {name: getattr(self, name) for name in self.model_fields_set - _ASIDE}
        if self.agent is not None:
            given["agent"] = self.agent.stored()
        if self.initial_events is not None:
            given["initial_events"] = _events(self.initial_events)
        if self.budget is not None:
            given["budget"] = self.budget.stored()
        if "vault_ids" in given:
            given["vault_ids"] = self.vault_ids or ()
        return DeploymentChange.model_validate(given)


_ASIDE = {"resources"}


def _events(events: tuple[Sendable, ...]) -> tuple[InitialEvent, ...]:
    # An outcome does not get through validation.
    return tuple(each.stored() for each in events if not isinstance(each, SendOutcome))


class AgentPin(Wire):
    """An agent at the version that is deployed."""

    type: Literal["agent"] = "agent"
    id: str
    version: int


class FirstMessage(Wire):
    """See `SendMessage`."""

    type: Literal["user.message"] = "user.message"
    content: tuple[MessageBlock, ...]


class FirstSystemMessage(Wire):
    """See `SendSystemMessage`."""

    type: Literal["system.message"] = "system.message"
    content: tuple[TextBlock, ...]


FirstEvent = Annotated[FirstMessage | FirstSystemMessage, Field(discriminator="type")]


class Schedule(Wire):
    """When it runs, and when it has run."""

    type: Literal["cron"] = "cron"
    expression: str
    timezone: str
    upcoming_runs_at: tuple[datetime, ...]
    last_run_at: datetime | None


class Deployment(Wire):
    """A deployment."""

    id: str
    type: Literal["deployment"] = "deployment"
    name: str
    agent: AgentPin
    environment_id: str | None
    """``None`` for deployments that the Python client has made without one."""
    initial_events: tuple[FirstEvent, ...]
    schedule: Schedule | None
    budget: BudgetLimit | None
    description: str | None
    metadata: dict[str, str]
    resources: tuple[()] = ()
    vault_ids: tuple[str, ...] = ()
    status: DeploymentStatus
    paused_reason: PausedReason | None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class DeploymentRun(Wire):
    """A run of a deployment. It has neither session nor error while no worker has taken it."""

    id: str
    type: Literal["deployment_run"] = "deployment_run"
    deployment_id: str
    agent: AgentPin
    trigger_context: Annotated[ScheduleTrigger | ManualTrigger, Field(discriminator="type")]
    session_id: str | None
    error: RunError | None
    created_at: datetime


def wire_deployment(found: StoredDeployment) -> Deployment:
    """A deployment as replies show it."""
    return Deployment(
        id=found.id,
        name=found.name,
        agent=_pin(found.agent),
        environment_id=found.environment_id,
        initial_events=tuple(map(_event, found.initial_events)),
        schedule=_schedule(found),
        budget=wire_budget(found.budget),
        vault_ids=found.vault_ids,
        description=found.description,
        metadata=found.metadata,
        status=found.status,
        paused_reason=found.paused_reason,
        created_at=found.created_at,
        updated_at=found.updated_at,
        archived_at=found.archived_at,
    )


def wire_run(found: StoredRun) -> DeploymentRun:
    """A run as replies show it."""
    return DeploymentRun(
        id=found.id,
        deployment_id=found.deployment_id,
        agent=_pin(found.agent),
        trigger_context=found.trigger,
        session_id=found.session_id,
        error=found.error,
        created_at=found.created_at,
    )


def _pin(agent: AgentRef) -> AgentPin:
    return AgentPin(id=agent.id, version=agent.version or 1)


def _event(event: InitialEvent) -> FirstMessage | FirstSystemMessage:
    match event:
        case UserMessage():
            return FirstMessage(content=event.content)
        case SystemMessage():
            return FirstSystemMessage(content=event.content)
        case _:
            raise ValueError(f"{event.type} cannot have been stored")


def _schedule(found: StoredDeployment) -> Schedule | None:
    if found.schedule is None:
        return None
    return Schedule(
        expression=found.schedule.expression,
        timezone=found.schedule.timezone,
        upcoming_runs_at=found.upcoming_runs_at,
        last_run_at=found.last_run_at,
    )
