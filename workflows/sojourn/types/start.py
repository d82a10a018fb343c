"""What a session's workflow is started with, beside its input: by the client, and by the runs of deployments."""

from datetime import datetime, timedelta

from temporalio.common import SearchAttributePair, TypedSearchAttributes

from sojourn.types.account import SessionAccount
from sojourn.types.export import ExportState
from sojourn.types.name import (
    ACCOUNT_MEMO,
    AGENT_ATTRIBUTE,
    AGENT_VERSION_ATTRIBUTE,
    CREATED_ATTRIBUTE,
    DEPLOYMENT_ATTRIBUTE,
    ENVIRONMENT_ATTRIBUTE,
    EXPORT_ATTRIBUTE,
    METADATA_MEMO,
    NO_STOP_REASON,
    STATUS_ATTRIBUTE,
    STOP_REASON_ATTRIBUTE,
    TITLE_MEMO,
    USER_ATTRIBUTE,
    WORKSPACE_ATTRIBUTE,
)
from sojourn.types.record import UserEvents
from sojourn.types.session import SessionInput, SessionStatus

TASK_TIMEOUT = timedelta(seconds=5)
"""After so long a workflow task whose worker died in the middle of it goes to another. A task takes milliseconds, the
replay of the longest run about half a second (temporal.md §3.7); the server's default is ten seconds."""


def start_attributes(input: SessionInput, first: UserEvents, *, now: datetime) -> TypedSearchAttributes:
    """Set at the start they cost no history event."""
    starts = any(event.type == "user.message" for event in first.sent)
    status = SessionStatus.RUNNING if starts else SessionStatus.QUEUED
    # Stores of search attributes differ in what they keep below the millisecond.
    created = now.replace(microsecond=now.microsecond // 1000 * 1000)
    named = ((ENVIRONMENT_ATTRIBUTE, input.environment_id), (DEPLOYMENT_ATTRIBUTE, input.deployment_id))
    return TypedSearchAttributes(
        [
            *(SearchAttributePair(key, value) for key, value in named if value),
            SearchAttributePair(AGENT_VERSION_ATTRIBUTE, str(input.agent.version)),
            SearchAttributePair(CREATED_ATTRIBUTE, created),
            SearchAttributePair(STATUS_ATTRIBUTE, status.value),
            SearchAttributePair(STOP_REASON_ATTRIBUTE, NO_STOP_REASON),
            SearchAttributePair(AGENT_ATTRIBUTE, input.agent.id),
            SearchAttributePair(WORKSPACE_ATTRIBUTE, input.owner.workspace),
            SearchAttributePair(USER_ATTRIBUTE, input.owner.user),
            SearchAttributePair(EXPORT_ATTRIBUTE, ExportState.NONE.value),
        ]
    )


def start_memo(input: SessionInput) -> dict[str, object]:
    """What lists show of it."""
    account = {ACCOUNT_MEMO: SessionAccount(cost_microcents=0, budget=input.budget)} if input.budget else {}
    return {TITLE_MEMO: input.title, METADATA_MEMO: input.metadata, **account}


def start_summary(input: SessionInput) -> str:
    """What the Web UI calls it."""
    return input.title or f"session of {input.agent.name}"
