"""What the server's description of a workflow says about a session, for lists, `get_session` and the archive."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.converter import decode_typed_search_attributes

from sojourn.types.account import SessionAccount
from sojourn.types.id import AgentId, DeploymentId, EnvironmentId, SessionId
from sojourn.types.name import (
    ACCOUNT_MEMO,
    AGENT_ATTRIBUTE,
    AGENT_VERSION_ATTRIBUTE,
    CREATED_ATTRIBUTE,
    CREATED_MEMO,
    DEPLOYMENT_ATTRIBUTE,
    ENVIRONMENT_ATTRIBUTE,
    METADATA_MEMO,
    NO_STOP_REASON,
    RESOURCES_MEMO,
    STATUS_ATTRIBUTE,
    STOP_REASON_ATTRIBUTE,
    TITLE_MEMO,
    USER_ATTRIBUTE,
)
from sojourn.types.resource import ResourceList
from sojourn.types.session import Owner, SessionInfo, SessionStatus

T = TypeVar("T")


def attribute(info: WorkflowExecutionInfo, key: SearchAttributeKey[str]) -> str | None:
    """The value of a search attribute."""
    return decode_typed_search_attributes(info.search_attributes).get(key)


async def memo(client: Client, info: WorkflowExecutionInfo, key: str, kind: type[T]) -> T | None:
    """The value of a memo field, or ``None`` if it is not set."""
    fields = info.memo.fields
    if key not in fields:
        return None
    optional: Any = kind | None
    value: T | None = (await client.data_converter.decode([fields[key]], [optional]))[0]
    return value


def started_at(info: WorkflowExecutionInfo) -> datetime:
    """When the run began."""
    return info.start_time.ToDatetime(tzinfo=UTC)


def sorted_at(info: WorkflowExecutionInfo) -> datetime:
    """By what lists are sorted: when a session was created, as far as a search attribute tells."""
    return decode_typed_search_attributes(info.search_attributes).get(CREATED_ATTRIBUTE) or started_at(info)


async def created_at(client: Client, info: WorkflowExecutionInfo) -> datetime:
    """When the first run of the chain began."""
    shown = decode_typed_search_attributes(info.search_attributes).get(CREATED_ATTRIBUTE)
    return shown or await memo(client, info, CREATED_MEMO, datetime) or started_at(info)


def closed_at(info: WorkflowExecutionInfo) -> datetime | None:
    """When the run ended, or ``None`` if it goes on."""
    return info.close_time.ToDatetime(tzinfo=UTC) if info.HasField("close_time") else None


def is_open(info: WorkflowExecutionInfo) -> bool:
    """Whether the run goes on; one paused by an operator does."""
    closed = (
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW,
    )
    return info.status not in closed


def session_status(info: WorkflowExecutionInfo) -> SessionStatus:
    """What a session is; one whose workflow was ended from outside has failed."""
    shown = SessionStatus(attribute(info, STATUS_ATTRIBUTE) or SessionStatus.QUEUED)
    return shown if shown.is_terminal or is_open(info) else SessionStatus.FAILED


async def session_info(client: Client, info: WorkflowExecutionInfo) -> SessionInfo:
    """The session as lists and `get_session` show it."""
    workspace, _, session_id = info.execution.workflow_id.rpartition("/")
    reason = attribute(info, STOP_REASON_ATTRIBUTE)
    version = attribute(info, AGENT_VERSION_ATTRIBUTE)
    environment, deployment = attribute(info, ENVIRONMENT_ATTRIBUTE), attribute(info, DEPLOYMENT_ATTRIBUTE)
    account = await memo(client, info, ACCOUNT_MEMO, SessionAccount) or SessionAccount()
    created = await created_at(client, info)
    resources = await memo(client, info, RESOURCES_MEMO, ResourceList)
    return SessionInfo(
        id=SessionId(session_id),
        owner=Owner(workspace, attribute(info, USER_ATTRIBUTE) or "default"),
        agent_id=AgentId(attribute(info, AGENT_ATTRIBUTE) or ""),
        status=session_status(info),
        stop_reason=None if reason == NO_STOP_REASON else reason,
        title=await memo(client, info, TITLE_MEMO, str),
        metadata=await memo(client, info, METADATA_MEMO, dict[str, str]) or {},
        created_at=created,
        closed_at=closed_at(info),
        updated_at=closed_at(info) or account.updated_at or created,
        agent_version=int(version) if version else None,
        environment_id=EnvironmentId(environment) if environment else None,
        deployment_id=DeploymentId(deployment) if deployment else None,
        account=account,
        resources=resources.data if resources else None,
    )
