"""API keys: one workflow each, which holds the hash of the secret in its memo and is terminated to revoke the key.

Nothing here needs a worker.
"""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import TerminateWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.service import RPCError

from sojourn.client.failure import translated
from sojourn.client.listing import Page, condition, list_workflows
from sojourn.types.chain import described_run, is_missing
from sojourn.types.described import closed_at, is_open, memo
from sojourn.types.error import ConflictError, InvalidRequestError, KeyNotFoundError, KeyRefusedError
from sojourn.types.id import EnvironmentId, KeyId, key_workflow_id, new_key_id
from sojourn.types.key import SCOPES, KeyInfo, KeyRecord, KeyStatus, KeyToken
from sojourn.types.name import KEY_MEMO, KEY_WORKFLOW, STATUS_ATTRIBUTE, WORKSPACE_ATTRIBUTE
from sojourn.types.session import Owner
from sojourn.types.wire import parse

MAX_LIFE = timedelta(days=3650)
_SECRET_BYTES = 32


@dataclass(frozen=True)
class NewKey:
    """A key that has just been made."""

    info: KeyInfo
    token: str = field(repr=False)
    """What its holder sends. It is shown this once and stored nowhere."""


@dataclass(frozen=True)
class FoundKey:
    """A key as the server has it."""

    record: KeyRecord
    ended: KeyStatus | None
    """``None`` while it holds, as far as the server is concerned."""
    ended_at: datetime | None

    def check(self, token: KeyToken, *, now: datetime) -> KeyRecord:
        """The key, if the token opens it.

        Raises:
            KeyRefusedError: It does not.
        """
        if not self.record.opens(token):
            raise KeyRefusedError("wrong_secret")
        status = self.status(now)
        if status != "active":
            raise KeyRefusedError(status)
        return self.record

    def status(self, now: datetime) -> KeyStatus:
        """Whether the key holds."""
        return self.ended or ("expired" if self.record.is_expired(now) else "active")

    def info(self, now: datetime) -> KeyInfo:
        """What lists show."""
        shown = self.record.model_dump(exclude={"digest"})
        status = self.status(now)
        return parse(KeyInfo, {**shown, "status": status, "revoked_at": self.ended_at if status == "revoked" else None})


class KeyStore:
    """Makes, verifies, lists and revokes API keys."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host

    async def create(
        self,
        name: str,
        *,
        owner: Owner,
        scopes: tuple[str, ...] = SCOPES,
        expires_in: timedelta | None = None,
        environment_id: EnvironmentId | None = None,
    ) -> NewKey:
        """Make a key.

        Args:
            name: For people.
            owner: As whom its holder acts.
            scopes: What its holder may do.
            expires_in: How long it holds; ``None`` until it is revoked.
            environment_id: The self-hosted environment whose workers get it; its scopes then say nothing.

        Raises:
            InvalidRequestError: There is no such scope, or the time is none.
        """
        token = KeyToken(new_key_id(), secrets.token_urlsafe(_SECRET_BYTES))
        record = _record(token, name, owner, scopes, expires_in, environment_id)
        return await self._register(token, record, expires_in)

    async def register(
        self,
        token: KeyToken,
        name: str,
        *,
        owner: Owner,
        scopes: tuple[str, ...] = SCOPES,
        expires_in: timedelta | None = None,
    ) -> NewKey:
        """Make a key of a token that exists.

        Raises:
            ConflictError: There is a key of this id, or there was.
            InvalidRequestError: There is no such scope, or the time is none.
        """
        return await self._register(token, _record(token, name, owner, scopes, expires_in), expires_in)

    async def _register(self, token: KeyToken, record: KeyRecord, expires_in: timedelta | None) -> NewKey:
        with translated(self._address, taken=ConflictError(f"key {token.key_id!r} exists already; make a new one")):
            await self._client.start_workflow(
                KEY_WORKFLOW,
                id=key_workflow_id(token.key_id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                # So that nobody needs to clear up: the server ends the workflow, and forgets it after its retention.
                execution_timeout=expires_in,
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(WORKSPACE_ATTRIBUTE, record.owner.workspace),
                        SearchAttributePair(STATUS_ATTRIBUTE, "active"),
                    ]
                ),
                memo={KEY_MEMO: record},
                static_summary=f"API key {record.name}"[:200],
            )
        found = FoundKey(record, None, None)
        return NewKey(found.info(record.created_at), token.text)

    async def verify(self, token: str) -> KeyRecord:
        """The key that the token opens; one call to the server.

        Raises:
            KeyRefusedError: It opens none. Callers are told the same whatever the reason.
        """
        read = KeyToken.read(token)
        found = await self.find(read.key_id)
        if found is None:
            raise KeyRefusedError("unknown")
        return found.check(read, now=datetime.now(UTC))

    async def find(self, key_id: KeyId) -> FoundKey | None:
        """A key by its id, whosever it is; ``None`` if the server does not know it, or no more."""
        with translated(self._address):
            info = await described_run(self._client, key_workflow_id(key_id))
            return await self._found(info) if info is not None and info.type.name == KEY_WORKFLOW else None

    async def page(self, *, workspace: str, include_ended: bool, limit: int, cursor: str | None) -> Page[KeyInfo]:
        """Keys of a workspace, newest first; ended ones as long as the server keeps them."""
        query = condition(
            {
                "WorkflowType": KEY_WORKFLOW,
                WORKSPACE_ATTRIBUTE: workspace,
                "ExecutionStatus": None if include_ended else "Running",
            }
        )
        now = datetime.now(UTC)
        with translated(self._address):
            infos, next_page = await list_workflows(self._client, query, limit=limit, page=cursor)
            found = [await self._found(info) for info in infos]
        return Page([each.info(now) for each in found if each is not None], next_page)

    async def revoke(self, key_id: KeyId, *, workspace: str) -> KeyInfo:
        """Make a key open nothing from now on; gateways notice within seconds. Repeating it changes nothing.

        Raises:
            KeyNotFoundError: There is none in the workspace, or the server has forgotten it.
        """
        request = TerminateWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=key_workflow_id(key_id)),
            reason="revoked",
            identity=self._client.identity,
        )
        await self._of(key_id, workspace)
        with translated(self._address):
            try:
                await self._client.workflow_service.terminate_workflow_execution(request, retry=True)
            except RPCError as error:
                if not is_missing(error):
                    raise
        return (await self._of(key_id, workspace)).info(datetime.now(UTC))

    async def _of(self, key_id: KeyId, workspace: str) -> FoundKey:
        found = await self.find(key_id)
        if found is None or found.record.owner.workspace != workspace:
            raise KeyNotFoundError(key_id)
        return found

    async def _found(self, info: WorkflowExecutionInfo) -> FoundKey | None:
        record = await memo(self._client, info, KEY_MEMO, KeyRecord)
        if record is None:
            return None
        if is_open(info):
            return FoundKey(record, None, None)
        timed_out = info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT
        return FoundKey(record, "expired" if timed_out else "revoked", closed_at(info))


def _record(
    token: KeyToken,
    name: str,
    owner: Owner,
    scopes: tuple[str, ...],
    expires_in: timedelta | None,
    environment_id: EnvironmentId | None = None,
) -> KeyRecord:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        told = f"scope {unknown[0]!r} is none" if unknown else "a key needs a scope"
        raise InvalidRequestError(f"{told}; use {', '.join(SCOPES)}", param="scopes")
    if expires_in is not None and not timedelta(0) < expires_in <= MAX_LIFE:
        raise InvalidRequestError(f"a key holds for up to {MAX_LIFE.days} days, not {expires_in}", param="expires_in")
    now = datetime.now(UTC)
    return parse(
        KeyRecord,
        {
            "id": token.key_id,
            "name": name,
            "owner": owner,
            "scopes": tuple(each for each in SCOPES if each in scopes),
            "environment_id": environment_id,
            "digest": token.digest(),
            "created_at": now,
            "expires_at": now + expires_in if expires_in is not None else None,
        },
    )
