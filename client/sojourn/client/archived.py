"""Sessions that the server has forgotten and the archive has not."""

from collections.abc import Sequence
from dataclasses import dataclass

from temporalio.client import Client

from sojourn.client.failure import translated
from sojourn.client.listing import ALWAYS, CreatedRange, condition, list_workflows, quote
from sojourn.types.archive import Archive, ArchivedSession, indexed_id
from sojourn.types.error import SessionNotFoundError
from sojourn.types.id import AgentId, DeploymentId, EnvironmentId, SessionId, workflow_id
from sojourn.types.name import (
    AGENT_ATTRIBUTE,
    AGENT_VERSION_ATTRIBUTE,
    CREATED_ATTRIBUTE,
    DEPLOYMENT_ATTRIBUTE,
    ENVIRONMENT_ATTRIBUTE,
    NO_STOP_REASON,
    SESSION_WORKFLOW,
    STATUS_ATTRIBUTE,
    STOP_REASON_ATTRIBUTE,
    USER_ATTRIBUTE,
    WORKSPACE_ATTRIBUTE,
)
from sojourn.types.session import Owner, SessionInfo, SessionStatus

_CURSOR = "archived:"
_BATCH = 200
"""Sessions that one query asks the server about."""


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions a list shows; ``None`` and an empty list leave it open."""

    workspace: str
    user: str | None = None
    agent_id: AgentId | None = None
    agent_version: int | None = None
    deployment_id: DeploymentId | None = None
    environment_id: EnvironmentId | None = None
    statuses: Sequence[SessionStatus] = ()
    stop_reason: str | None = None
    created: CreatedRange = ALWAYS
    include_archived: bool = True

    def query(self) -> str:
        """For the server. A session that has rolled over shows once: only its latest run has not continued."""
        wanted = condition(
            {
                "WorkflowType": SESSION_WORKFLOW,
                WORKSPACE_ATTRIBUTE: self.workspace,
                USER_ATTRIBUTE: self.user,
                AGENT_ATTRIBUTE: self.agent_id,
                AGENT_VERSION_ATTRIBUTE: str(self.agent_version) if self.agent_version is not None else None,
                DEPLOYMENT_ATTRIBUTE: self.deployment_id,
                ENVIRONMENT_ATTRIBUTE: self.environment_id,
                STATUS_ATTRIBUTE: [status.value for status in self.statuses] or None,
                STOP_REASON_ATTRIBUTE: self.stop_reason,
            }
        )
        parts = [wanted, "ExecutionStatus != 'ContinuedAsNew'", *self.created.conditions(CREATED_ATTRIBUTE)]
        if not self.include_archived:
            parts.append(f"{STATUS_ATTRIBUTE.name} != {quote(SessionStatus.ARCHIVED.value)}")
        return " AND ".join(parts)

    def admits(self, info: SessionInfo) -> bool:
        """The same for one session."""
        return (
            self.user in (None, info.owner.user)
            and self.agent_id in (None, info.agent_id)
            and self.agent_version in (None, info.agent_version)
            and self.deployment_id in (None, info.deployment_id)
            and self.environment_id in (None, info.environment_id)
            and self.created.admits(info.created_at)
            and (self.include_archived or info.status is not SessionStatus.ARCHIVED)
            and (not self.statuses or info.status in self.statuses)
            and self.stop_reason in (None, info.stop_reason or NO_STOP_REASON)
        )


def is_archived_page(cursor: str | None) -> bool:
    """Whether the cursor leads into the archive."""
    return cursor is not None and cursor.startswith(_CURSOR)


FIRST_ARCHIVED_PAGE = _CURSOR


class ArchivedSessions:
    """Reads sessions from the archive."""

    def __init__(self, client: Client, archive: Archive) -> None:
        self._client = client
        self._archive = archive

    async def find(self, session_id: SessionId, owner: Owner) -> ArchivedSession:
        """A session of this owner.

        Raises:
            SessionNotFoundError: It is not in the archive, or it is another owner's.
        """
        found = await self._archive.session(workflow_id(owner.workspace, session_id))
        if found is None or found.info.owner != owner:
            raise SessionNotFoundError(session_id)
        return found

    async def has(self, session_id: SessionId, workspace: str) -> bool:
        """Whether somebody's session with this id has ended."""
        return await self._archive.session(workflow_id(workspace, session_id)) is not None

    async def page(
        self, wanted: SessionFilter, *, limit: int, cursor: str = FIRST_ARCHIVED_PAGE
    ) -> tuple[list[SessionInfo], str | None]:
        """Up to so many sessions that the server does not have, and the cursor of the next page.

        Reads the names of the whole index of the workspace, but only the entries that it shows.
        """
        folder = f"index/{wanted.workspace}"
        last = f"{folder}/{cursor.removeprefix(_CURSOR)}"
        found = await self.walk(wanted, after=last, number=limit + 1)
        rest, found = found[limit:], found[:limit]
        last = found[-1][0] if found else last
        return [entry.info for _, entry in found], _CURSOR + last.removeprefix(f"{folder}/") if rest else None

    async def walk(
        self, wanted: SessionFilter, *, after: str, backwards: bool = False, number: int
    ) -> list[tuple[str, ArchivedSession]]:
        """Up to so many sessions that the server does not have, with their places in the index.

        Args:
            wanted: Which.
            after: The place to go on from; empty begins at the end that comes first.
            backwards: The earliest end first, in place of the latest.
            number: How many at most.
        """
        found: list[tuple[str, ArchivedSession]] = []
        paths = await self._archive.entries(wanted.workspace, after="" if backwards else after)
        if backwards:
            paths = [path for path in reversed(paths) if not after or path < after]
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            known = await self._on_server(wanted.workspace, batch)
            for path in batch:
                if len(found) == number:
                    return found
                if indexed_id(path) not in known and (entry := await self._admitted(path, wanted)) is not None:
                    found.append((path, entry))
        return found

    async def _admitted(self, path: str, wanted: SessionFilter) -> ArchivedSession | None:
        entry = await self._archive.entry(path)
        return entry if entry is not None and wanted.admits(entry.info) else None

    async def _on_server(self, workspace: str, paths: Sequence[str]) -> set[str]:
        """Ids of those sessions that the server has."""
        ids = [workflow_id(workspace, SessionId(indexed_id(path))) for path in paths]
        query = condition({"WorkflowType": SESSION_WORKFLOW, "WorkflowId": ids})
        query = f"{query} AND ExecutionStatus != 'ContinuedAsNew'"
        with translated(self._client.service_client.config.target_host):
            infos, _ = await list_workflows(self._client, query, limit=_BATCH, page=None)
        return {info.execution.workflow_id.rpartition("/")[2] for info in infos}
