"""Versions of the workers: which there are, which one is current, and moving sessions to it. For operators."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import RoutingConfigUpdateState, WorkerDeploymentVersionStatus
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    ListWorkerDeploymentsRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.client.failure import translated
from sojourn.client.listing import list_workflows, quote
from sojourn.types.error import NotFoundError, ServerNotReadyError
from sojourn.types.name import SESSION_WORKFLOW, USER_EVENTS_SIGNAL
from sojourn.types.record import UserEvents

_PATIENCE = timedelta(seconds=10)
# The server does it in a workflow of its own.
_SPREAD = timedelta(seconds=60)
_STATUS = "WORKER_DEPLOYMENT_VERSION_STATUS_"


@dataclass(frozen=True)
class DeploymentVersion:
    """One version of a deployment."""

    deployment: str
    build_id: str
    status: str
    """``current``, ``ramping``, ``draining`` (pinned sessions are still on it), ``drained`` (its workers can be
    stopped), or ``inactive`` (was never current)."""
    sessions: int
    """Open sessions whose last step ran on it."""
    created_at: datetime


async def list_deployments(client: Client, name: str | None = None) -> list[DeploymentVersion]:
    """All versions of one deployment, or of all, the newest version of each first.

    Raises:
        NotFoundError: No worker has ever been started with this name.
    """
    names = [name] if name is not None else await _names(client)
    return [each for one in names for each in await _versions(client, one)]


async def set_current_version(client: Client, name: str, build_id: str, *, timeout: timedelta = _SPREAD) -> None:
    """Make a version current: new sessions, and sessions between two steps, go to it. Returns when all know it.

    Args:
        client: Connection to the server.
        name: The deployment.
        build_id: Its version.
        timeout: How long to wait until all know it.

    Raises:
        NotFoundError: There is no such deployment or version; its workers must have been started once.
        ServerNotReadyError: ``timeout`` passed first. The version is current all the same.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=name, build_id=build_id, identity=client.identity
    )
    with translated(client.service_client.config.target_host, missing=_missing(name, build_id)):
        await client.workflow_service.set_worker_deployment_current_version(request, retry=True, timeout=_SPREAD)
        # The server tells its task queues one after another; until then sessions still go to the version before.
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                while await _spreading(client, name):  # noqa: ASYNC110 (the server cannot be asked to tell)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ServerNotReadyError(
                f"version {build_id!r} of deployment {name!r} is current, but not all task queues know it yet;"
                " until then sessions may go to the version before"
            ) from None


async def move_sessions(client: Client, name: str) -> int:
    """Wake the sessions that are pinned to other versions than the current one, so that they move now.

    A session that has nothing to do looks for a new version only when something comes in. What it gets here is a signal
    without events: the log does not change.

    Returns:
        How many were woken. One in the middle of a step moves at its end.
    """
    current = (await _describe(client, name)).worker_deployment_info.routing_config.current_deployment_version.build_id
    if not current:
        raise ServerNotReadyError(f"deployment {name!r} has no current version; run `sojourn deployments set-current`")
    version = quote(f"{name}:{current}")
    elsewhere = f"TemporalWorkflowVersioningBehavior = 'Pinned' AND TemporalWorkerDeploymentVersion != {version}"
    query = f"{_open(name)} AND {elsewhere}"
    woken, page = 0, None
    while True:
        found, page = await list_workflows(client, query, limit=1000, page=page)
        woken += sum([await _wake(client, each.execution.workflow_id) for each in found])
        if page is None:
            return woken


async def current_version(client: Client, name: str) -> str | None:
    """Build id of the current version; ``None`` if there is none yet."""
    try:
        described = await _describe(client, name)
    except NotFoundError:
        return None
    return described.worker_deployment_info.routing_config.current_deployment_version.build_id or None


async def _wake(client: Client, workflow_id: str) -> bool:
    try:
        await client.get_workflow_handle(workflow_id).signal(USER_EVENTS_SIGNAL, UserEvents(sent=()))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        # It has ended meanwhile.
        return False
    return True


async def _names(client: Client) -> list[str]:
    request = ListWorkerDeploymentsRequest(namespace=client.namespace)
    names: list[str] = []
    with translated(client.service_client.config.target_host):
        while True:
            listed = await client.workflow_service.list_worker_deployments(request, retry=True, timeout=_PATIENCE)
            names += [each.name for each in listed.worker_deployments]
            if not listed.next_page_token:
                return sorted(names)
            request.next_page_token = listed.next_page_token


async def _versions(client: Client, name: str) -> list[DeploymentVersion]:
    described = await _describe(client, name)
    summaries = sorted(
        described.worker_deployment_info.version_summaries, key=lambda each: each.create_time.ToNanoseconds()
    )
    return [await _version(client, each) for each in reversed(summaries)]


async def _version(client: Client, summary: Any) -> DeploymentVersion:
    at = summary.deployment_version
    version = quote(f"{at.deployment_name}:{at.build_id}")
    query = f"{_open(at.deployment_name)} AND TemporalWorkerDeploymentVersion = {version}"
    with translated(client.service_client.config.target_host):
        counted = await client.workflow_service.count_workflow_executions(
            CountWorkflowExecutionsRequest(namespace=client.namespace, query=query), retry=True, timeout=_PATIENCE
        )
    return DeploymentVersion(
        deployment=at.deployment_name,
        build_id=at.build_id,
        status=WorkerDeploymentVersionStatus.Name(summary.status).removeprefix(_STATUS).lower(),
        sessions=counted.count,
        created_at=summary.create_time.ToDatetime().astimezone(),
    )


def _open(name: str) -> str:
    sessions = f"WorkflowType = '{SESSION_WORKFLOW}' AND ExecutionStatus = 'Running'"
    return f"{sessions} AND TemporalWorkerDeployment = {quote(name)}"


async def _spreading(client: Client, name: str) -> bool:
    described = await _describe(client, name)
    state = described.worker_deployment_info.routing_config_update_state
    return state == RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS


async def _describe(client: Client, name: str) -> DescribeWorkerDeploymentResponse:
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    with translated(client.service_client.config.target_host, missing=_missing(name)):
        return await client.workflow_service.describe_worker_deployment(request, retry=True, timeout=_PATIENCE)


def _missing(name: str, build_id: str | None = None) -> NotFoundError:
    what = f"deployment {name!r}" if build_id is None else f"build id {build_id!r} in deployment {name!r}"
    return NotFoundError(f"no {what}; `sojourn worker --deployment` makes it, `sojourn deployments list` shows all")
