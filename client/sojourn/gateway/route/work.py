"""`/v1/environments/{id}/work`: the queue from which a user's own workers fetch sessions (Managed Agents API §1.2)."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response

from sojourn.client.work import WorkStore
from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.page import ListPage
from sojourn.gateway.wire.work import (
    StopBody,
    UpdateBody,
    Work,
    WorkHeartbeat,
    WorkQueueStats,
    wire_heartbeat,
    wire_work,
)
from sojourn.types import EnvironmentId, InvalidRequestError
from sojourn.types.wire import Wire
from sojourn.types.work import NO_HEARTBEAT, RECLAIM, Heartbeat, UpdateWork

_WORKER_ID = "anthropic-worker-id"


class PollQuery(Wire):
    """How to wait."""

    block_ms: Annotated[int | None, Field(ge=1, le=999)] = None
    reclaim_older_than_ms: Annotated[int, Field(ge=0, le=86_400_000)] = int(RECLAIM.total_seconds() * 1000)


class BeatQuery(Wire):
    """What the worker knows and wants."""

    expected_last_heartbeat: str = ""
    desired_ttl_seconds: Annotated[int | None, Field(ge=1, le=86_400)] = None


class WorkQuery(Wire):
    """Which page."""

    limit: int = Field(default=20, ge=1, le=100)
    page: str | None = None


async def poll(call: Call[None, PollQuery]) -> Response:
    environment_id, query = await _self_hosted(call), call.query
    call.gateway.pollers.heard(environment_id, call.request.headers.get(_WORKER_ID, ""))
    found = await _store(call).poll(
        environment_id,
        workspace=call.principal.workspace,
        wait=timedelta(milliseconds=query.block_ms or 0),
        reclaim=timedelta(milliseconds=query.reclaim_older_than_ms),
    )
    # An empty body, or none, would break the SDK's poller.
    return JSONResponse(wire_work(found).model_dump(mode="json") if found else None)


async def acknowledge(call: Call[None, None]) -> Work:
    id, work_id = _ids(call)
    return wire_work(await _store(call).acknowledge(id, work_id, workspace=call.principal.workspace))


async def heartbeat(call: Call[None, BeatQuery]) -> WorkHeartbeat:
    id, work_id = _ids(call)
    expected = call.query.expected_last_heartbeat or NO_HEARTBEAT
    beat = Heartbeat(expected=expected, lease_seconds=call.query.desired_ttl_seconds)
    return wire_heartbeat(await _store(call).heartbeat(id, work_id, beat, workspace=call.principal.workspace))


async def stop(call: Call[StopBody, None]) -> Work:
    id, work_id = _ids(call)
    workspace = call.principal.workspace
    return wire_work(await _store(call).stop(id, work_id, workspace=workspace, force=call.body.force))


async def retrieve(call: Call[None, None]) -> Work:
    id, work_id = _ids(call)
    return wire_work(await _store(call).get(id, work_id, workspace=call.principal.workspace))


async def update(call: Call[UpdateBody, None]) -> Work:
    id, work_id = _ids(call)
    change = UpdateWork(metadata=call.body.metadata)
    return wire_work(await _store(call).update(id, work_id, change, workspace=call.principal.workspace))


async def list_work(call: Call[None, WorkQuery]) -> ListPage[Work]:
    id = await _self_hosted(call)
    found = await _store(call).page(
        id, workspace=call.principal.workspace, limit=call.query.limit, cursor=_server_page(call.query.page)
    )
    return ListPage(
        data=tuple(wire_work(each) for each in found.data),
        next_page=cursor("work", at=found.next_page) if found.next_page else None,
    )


async def stats(call: Call[None, None]) -> WorkQueueStats:
    id = await _self_hosted(call)
    found = await _store(call).stats(id, workspace=call.principal.workspace)
    return WorkQueueStats(
        depth=found.depth,
        pending=found.pending,
        oldest_queued_at=found.oldest_queued_at,
        workers_polling=call.gateway.pollers.count(id),
    )


async def _self_hosted(call: Call[Any, Any]) -> EnvironmentId:
    """The environment, which must exist and have a queue."""
    environment = await call.runtime.get_environment(call.path["environment_id"], owner=call.owner)
    if environment.config.type != "self_hosted":
        text = f"environment {environment.id!r} is not self-hosted and has no work queue; create one that is"
        raise InvalidRequestError(text, param="environment_id")
    return environment.id


def _ids(call: Call[Any, Any]) -> tuple[EnvironmentId, str]:
    return EnvironmentId(call.path["environment_id"]), call.path["work_id"]


def _store(call: Call[Any, Any]) -> WorkStore:
    return WorkStore(call.runtime.client, task_queue=call.runtime.task_queue)


def _server_page(page: str | None) -> str | None:
    if not page:
        return None
    at = read_cursor("work", page).get("at")
    if not isinstance(at, str):
        raise bad_cursor()
    return at


_ALL = "/v1/environments/{environment_id}/work"
_ONE = f"{_ALL}/{{work_id}}"

# Before the item's own path, which would take "poll" and "stats" for ids.
ENDPOINTS = (
    Endpoint(
        "GET",
        f"{_ALL}/poll",
        "environments.work.poll",
        poll,
        "write",
        "Fetch the next work item; null if there is none",
        None,
        PollQuery,
        reply=Work,
        for_workers=True,
    ),
    Endpoint(
        "GET",
        f"{_ALL}/stats",
        "environments.work.stats",
        stats,
        "read",
        "How full the queue is",
        reply=WorkQueueStats,
        for_workers=True,
    ),
    Endpoint(
        "GET",
        _ALL,
        "environments.work.list",
        list_work,
        "read",
        "List work items",
        None,
        WorkQuery,
        ListPage[Work],
        for_workers=True,
    ),
    Endpoint("GET", _ONE, "environments.work.retrieve", retrieve, "read", "Get a work item", reply=Work),
    Endpoint("POST", _ONE, "environments.work.update", update, "write", "Change a work item", UpdateBody, reply=Work),
    Endpoint(
        "POST",
        f"{_ONE}/ack",
        "environments.work.ack",
        acknowledge,
        "write",
        "Begin with a work item",
        reply=Work,
        for_workers=True,
    ),
    Endpoint(
        "POST",
        f"{_ONE}/heartbeat",
        "environments.work.heartbeat",
        heartbeat,
        "write",
        "Keep a work item",
        None,
        BeatQuery,
        WorkHeartbeat,
        for_workers=True,
    ),
    Endpoint(
        "POST",
        f"{_ONE}/stop",
        "environments.work.stop",
        stop,
        "write",
        "End a work item",
        StopBody,
        reply=Work,
        for_workers=True,
    ),
)
