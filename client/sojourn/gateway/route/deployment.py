"""`/v1/deployments` and `/v1/deployment_runs` (Managed Agents API §1.10)."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from sojourn.client.listing import CreatedRange
from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.idempotency import Creation, create_once
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.deployment import (
    CreateDeployment,
    Deployment,
    DeploymentRun,
    UpdateDeployment,
    wire_deployment,
    wire_run,
)
from sojourn.gateway.wire.page import ListPage
from sojourn.types import Deployment as StoredDeployment
from sojourn.types import DeploymentDefinition, DeploymentExistsError, InvalidRequestError
from sojourn.types import DeploymentRun as StoredRun
from sojourn.types.schedule import DeploymentStatus, TriggerType
from sojourn.types.wire import Wire


class DeploymentsQuery(Wire):
    """Which deployments."""

    limit: int = Field(default=20, ge=1, le=100)
    page: str | None = None
    agent_id: str | None = None
    status: DeploymentStatus | None = None
    include_archived: bool = False
    created_since: Annotated[datetime | None, Field(alias="created_at[gte]")] = None
    created_until: Annotated[datetime | None, Field(alias="created_at[lte]")] = None


class RunsQuery(Wire):
    """Which runs."""

    limit: int = Field(default=20, ge=1, le=1000)
    page: str | None = None
    deployment_id: str | None = None
    has_error: bool | None = None
    trigger_type: TriggerType | None = None
    created_after: Annotated[datetime | None, Field(alias="created_at[gt]")] = None
    created_since: Annotated[datetime | None, Field(alias="created_at[gte]")] = None
    created_before: Annotated[datetime | None, Field(alias="created_at[lt]")] = None
    created_until: Annotated[datetime | None, Field(alias="created_at[lte]")] = None


async def create(call: Call[CreateDeployment, None]) -> Deployment:
    definition = call.body.stored()

    async def make(id: str) -> StoredDeployment:
        return await call.runtime.create_deployment(definition, deployment_id=id, owner=call.owner)

    async def find(id: str) -> StoredDeployment:
        return await call.runtime.get_deployment(id, owner=call.owner)

    def same(found: StoredDeployment) -> bool:
        return _is_of(found, definition)

    return wire_deployment(await create_once(call, Creation("depl_", make, find, DeploymentExistsError, same)))


def _is_of(found: StoredDeployment, definition: DeploymentDefinition) -> bool:
    """Whether a deployment was made from the definition. One that has been changed since is given the benefit of it."""
    if found.updated_at != found.created_at:
        return True
    same = ("name", "environment_id", "schedule", "budget", "metadata")
    return found.agent.id == definition.agent.id and all(
        getattr(found, name) == getattr(definition, name) for name in same
    )


async def retrieve(call: Call[None, None]) -> Deployment:
    return wire_deployment(await call.runtime.get_deployment(call.path["deployment_id"], owner=call.owner))


async def update(call: Call[UpdateDeployment, None]) -> Deployment:
    id = call.path["deployment_id"]
    return wire_deployment(await call.runtime.update_deployment(id, call.body.stored(), owner=call.owner))


async def list_deployments(call: Call[None, DeploymentsQuery]) -> ListPage[Deployment]:
    query = call.query
    if query.status is not None and query.include_archived:
        text = "include_archived: cannot be combined with status; leave one of them out"
        raise InvalidRequestError(text, param="include_archived")
    found = await call.runtime.list_deployments(
        agent=query.agent_id,
        status=query.status,
        include_archived=query.include_archived,
        created=CreatedRange(gte=query.created_since, lte=query.created_until),
        limit=query.limit,
        page=_at("deployments", query.page),
        owner=call.owner,
    )
    return ListPage(data=tuple(map(wire_deployment, found.data)), next_page=_next("deployments", found.next_page))


async def pause(call: Call[None, None]) -> Deployment:
    return wire_deployment(await call.runtime.pause_deployment(call.path["deployment_id"], owner=call.owner))


async def unpause(call: Call[None, None]) -> Deployment:
    return wire_deployment(await call.runtime.unpause_deployment(call.path["deployment_id"], owner=call.owner))


async def archive(call: Call[None, None]) -> Deployment:
    return wire_deployment(await call.runtime.archive_deployment(call.path["deployment_id"], owner=call.owner))


async def run(call: Call[None, None]) -> DeploymentRun:
    id = call.path["deployment_id"]

    async def make(run_id: str) -> StoredRun:
        return await call.runtime.run_deployment(id, run_id=run_id, owner=call.owner)

    async def find(run_id: str) -> StoredRun:
        return await call.runtime.get_deployment_run(run_id, owner=call.owner)

    return wire_run(await create_once(call, Creation("drun_", make, find, DeploymentExistsError)))


async def retrieve_run(call: Call[None, None]) -> DeploymentRun:
    return wire_run(await call.runtime.get_deployment_run(call.path["run_id"], owner=call.owner))


async def list_runs(call: Call[None, RunsQuery]) -> ListPage[DeploymentRun]:
    query = call.query
    found = await call.runtime.list_deployment_runs(
        deployment=query.deployment_id,
        has_error=query.has_error,
        trigger=query.trigger_type,
        created=CreatedRange(
            gt=query.created_after, gte=query.created_since, lt=query.created_before, lte=query.created_until
        ),
        limit=query.limit,
        page=_at("deployment_runs", query.page),
        owner=call.owner,
    )
    return ListPage(data=tuple(map(wire_run, found.data)), next_page=_next("deployment_runs", found.next_page))


def _at(kind: str, page: str | None) -> str | None:
    """The runtime's cursor inside of ours."""
    if not page:
        return None
    at = read_cursor(kind, page).get("at")
    if not isinstance(at, str):
        raise bad_cursor()
    return at


def _next(kind: str, page: str | None) -> str | None:
    return cursor(kind, at=page) if page else None


_ALL = "/v1/deployments"
_ONE = "/v1/deployments/{deployment_id}"
_RUNS = "/v1/deployment_runs"

ENDPOINTS = (
    Endpoint(
        "POST", _ALL, "deployments.create", create, "write", "Create a deployment", CreateDeployment, reply=Deployment
    ),
    Endpoint(
        "GET",
        _ALL,
        "deployments.list",
        list_deployments,
        "read",
        "List deployments, newest first",
        None,
        DeploymentsQuery,
        ListPage[Deployment],
    ),
    Endpoint("GET", _ONE, "deployments.retrieve", retrieve, "read", "Get a deployment", reply=Deployment),
    Endpoint(
        "POST", _ONE, "deployments.update", update, "write", "Change a deployment", UpdateDeployment, reply=Deployment
    ),
    Endpoint("POST", f"{_ONE}/pause", "deployments.pause", pause, "write", "Pause a schedule", reply=Deployment),
    Endpoint(
        "POST", f"{_ONE}/unpause", "deployments.unpause", unpause, "write", "Let a schedule go on", reply=Deployment
    ),
    Endpoint(
        "POST", f"{_ONE}/archive", "deployments.archive", archive, "control", "Archive a deployment", reply=Deployment
    ),
    Endpoint("POST", f"{_ONE}/run", "deployments.run", run, "write", "Run a deployment now", reply=DeploymentRun),
    Endpoint(
        "GET",
        _RUNS,
        "deployment_runs.list",
        list_runs,
        "read",
        "List runs of deployments, newest first",
        None,
        RunsQuery,
        ListPage[DeploymentRun],
    ),
    Endpoint(
        "GET", f"{_RUNS}/{{run_id}}", "deployment_runs.retrieve", retrieve_run, "read", "Get a run", reply=DeploymentRun
    ),
)
