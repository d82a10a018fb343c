"""Vaults: one workflow each, read from its memo. Secrets are sealed here, before they go anywhere."""

import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import SecretStr
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy

from sojourn.client.failure import translated
from sojourn.client.listing import Page, check_limit, condition, list_workflows
from sojourn.client.removal import forget_runs, remove_workflow
from sojourn.client.update import PATIENCE, execute_update
from sojourn.client.validation import check_credential_id, check_readable, check_vault_id
from sojourn.types.chain import described_run
from sojourn.types.credential import (
    Credential,
    CredentialChange,
    CredentialDefinition,
    McpOAuthChange,
    NewEnvironmentVariable,
    NewMcpOAuth,
    Sealed,
    secret_context,
)
from sojourn.types.described import is_open, memo
from sojourn.types.error import InvalidRequestError
from sojourn.types.id import CredentialId, VaultId, new_credential_id, new_vault_id, workflow_id
from sojourn.types.name import (
    ADD_CREDENTIAL_UPDATE,
    ARCHIVE_CREDENTIAL_UPDATE,
    ARCHIVE_VAULT_UPDATE,
    CREDENTIAL_MEMO,
    DELETE_CREDENTIAL_UPDATE,
    RESEAL_VAULT_UPDATE,
    STATUS_ATTRIBUTE,
    UPDATE_CREDENTIAL_UPDATE,
    UPDATE_VAULT_UPDATE,
    VALIDATE_CREDENTIAL_UPDATE,
    VAULT_MEMO,
    VAULT_WORKFLOW,
    WORKSPACE_ATTRIBUTE,
)
from sojourn.types.payload import session_folder, store_of
from sojourn.types.seal import Sealer
from sojourn.types.secret import SecretName
from sojourn.types.vault import (
    MAX_VAULTS,
    AddCredentialInput,
    ChangeCredentialInput,
    CredentialValidation,
    ResealReport,
    ShedResult,
    Vault,
    VaultChange,
    VaultDefinition,
    VaultInput,
    VaultState,
)
from sojourn.types.vault_error import (
    CredentialNotFoundError,
    VaultArchivedError,
    VaultExistsError,
    VaultKeyMissingError,
    VaultNotFoundError,
)

R = TypeVar("R")

logger = logging.getLogger("sojourn.client")

_VALIDATION = timedelta(minutes=4)
"""Two looks at a server and one new token, each with a minute for a worker to take it, and the update itself."""


_RESEAL = timedelta(seconds=70)
"""A minute for a worker to take it, and the update itself."""


class VaultStore:
    """Reads and writes vaults and credentials. Creating a vault and reading need no worker; changes do."""

    def __init__(self, client: Client, *, task_queue: str, sealer: Sealer | None = None) -> None:
        """Use a client.

        Args:
            client: The connection.
            task_queue: Where the workers are.
            sealer: Seals secrets; ``None`` takes the keys of the environment, once they are needed.
        """
        self._client = client
        self._task_queue = task_queue
        self._sealer = sealer
        self._address = client.service_client.config.target_host

    @property
    def sealer(self) -> Sealer:
        """What seals secrets.

        Raises:
            SecretError: The operator's keys are written wrong.
            VaultKeyMissingError: There is none.
        """
        if self._sealer is None:
            self._sealer = Sealer.from_environment()
        if self._sealer is None:
            raise VaultKeyMissingError
        return self._sealer

    # --- vaults ----------------------------------------------------------------------------------------------------

    async def create(self, definition: VaultDefinition, *, workspace: str, vault_id: VaultId | None = None) -> Vault:
        """Store a new vault."""
        id = check_vault_id(vault_id) if vault_id is not None else new_vault_id()
        now = datetime.now(UTC)
        vault = Vault(**dict(definition), id=id, created_at=now, updated_at=now)
        input = VaultInput(workspace=workspace, state=VaultState(vault=vault))
        await check_readable(self._client, input)
        attributes = [
            SearchAttributePair(WORKSPACE_ATTRIBUTE, workspace),
            SearchAttributePair(STATUS_ATTRIBUTE, "active"),
        ]
        with translated(self._address, taken=VaultExistsError(id)):
            await self._client.start_workflow(
                VAULT_WORKFLOW,
                input,
                id=workflow_id(workspace, id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(attributes),
                memo={VAULT_MEMO: vault},
                static_summary=f"vault {vault.display_name}"[:200],
            )
        return vault

    async def get(self, vault_id: VaultId, *, workspace: str) -> Vault:
        """A vault as it is now."""
        return (await self._shown(vault_id, workspace))[0]

    async def admit(self, vault_ids: Sequence[VaultId], *, workspace: str) -> tuple[VaultId, ...]:
        """The vaults, if a session may begin with them now.

        Raises:
            InvalidRequestError: They are too many, or one is named twice.
            VaultArchivedError: One takes no new sessions.
            VaultNotFoundError: One is not in the workspace.
        """
        ids = tuple(vault_ids)
        if len(ids) > MAX_VAULTS:
            raise InvalidRequestError(f"vault_ids: {len(ids)} vaults; name up to {MAX_VAULTS}", param="vault_ids")
        if len(set(ids)) < len(ids):
            raise InvalidRequestError("vault_ids: a vault is named twice; leave one out", param="vault_ids")
        for id in ids:
            if (await self.get(id, workspace=workspace)).archived_at is not None:
                raise VaultArchivedError(id)
        return ids

    async def update(self, vault_id: VaultId, change: VaultChange, *, workspace: str) -> Vault:
        """Change what the change names."""
        change.applied(await self.get(vault_id, workspace=workspace))
        await check_readable(self._client, change)
        return await self._execute(vault_id, workspace, UPDATE_VAULT_UPDATE, change, result=Vault)

    async def archive(self, vault_id: VaultId, *, workspace: str) -> Vault:
        """Drop all secrets and refuse new sessions and changes. May be repeated."""
        await self.get(vault_id, workspace=workspace)
        done = await self._shed(vault_id, workspace, ARCHIVE_VAULT_UPDATE)
        return done.vault or await self.get(vault_id, workspace=workspace)

    async def delete(self, vault_id: VaultId, *, workspace: str) -> None:
        """Remove a vault with its credentials and all that was ever sealed in it."""
        await self.get(vault_id, workspace=workspace)
        id = workflow_id(workspace, vault_id)
        await remove_workflow(self._client, id)
        if (store := store_of(self._client)) is not None:
            await store.delete_folder(session_folder(id))

    async def reseal(self, vault_id: VaultId, *, workspace: str) -> ResealReport:
        """Have its secrets sealed with the workers' first key. May be repeated."""
        await self.get(vault_id, workspace=workspace)
        done = await self._shed(vault_id, workspace, RESEAL_VAULT_UPDATE, timeout=_RESEAL)
        return done.reseal or ResealReport()

    async def page(self, *, workspace: str, include_archived: bool, limit: int, cursor: str | None) -> Page[Vault]:
        """Vaults of a workspace, newest first."""
        query = condition(
            {
                "WorkflowType": VAULT_WORKFLOW,
                "ExecutionStatus": "Running",
                WORKSPACE_ATTRIBUTE: workspace,
                STATUS_ATTRIBUTE: None if include_archived else "active",
            }
        )
        with translated(self._address):
            found, next_page = await list_workflows(self._client, query, limit=limit, page=cursor)
        shown = [await memo(self._client, info, VAULT_MEMO, Vault) for info in found]
        return Page([each for each in shown if each is not None], next_page)

    # --- credentials -----------------------------------------------------------------------------------------------

    async def add(
        self,
        vault_id: VaultId,
        definition: CredentialDefinition,
        *,
        workspace: str,
        credential_id: CredentialId | None = None,
    ) -> Credential:
        """Seal a new credential and put it into a vault."""
        id = check_credential_id(credential_id) if credential_id is not None else new_credential_id()
        sealer = self.sealer
        auth = definition.auth
        if isinstance(auth, NewMcpOAuth):
            _check_future(auth.expires_at)
        found: dict[SecretName, SecretStr] = auth.secrets()
        if isinstance(auth, NewEnvironmentVariable):
            # What stands for the secret in a sandbox is derived from it, and outlives changes of secret and keys.
            found["placeholder_key"] = SecretStr(secrets.token_urlsafe(32))
        wanted = AddCredentialInput(
            id=id,
            display_name=definition.display_name,
            auth=auth.shown(),
            metadata=definition.metadata,
            sealed=_sealed(sealer, found, workspace, vault_id, id),
        )
        await check_readable(self._client, wanted)
        return await self._execute(vault_id, workspace, ADD_CREDENTIAL_UPDATE, wanted, result=Credential)

    async def credential(self, vault_id: VaultId, credential_id: CredentialId, *, workspace: str) -> Credential:
        """A credential as it is now."""
        _, credentials = await self._shown(vault_id, workspace)
        for each in credentials:
            if each.id == credential_id:
                return each
        raise CredentialNotFoundError(credential_id)

    async def change(
        self, vault_id: VaultId, credential_id: CredentialId, change: CredentialChange, *, workspace: str
    ) -> Credential:
        """Change what the change names, secrets included."""
        now = await self.credential(vault_id, credential_id, workspace=workspace)
        if isinstance(change.auth, McpOAuthChange):
            _check_future(change.auth.expires_at)
        change.applied_auth(now.auth)
        given = change.secrets()
        sealed = _sealed(self.sealer, given, workspace, vault_id, credential_id) if given else {}
        wanted = ChangeCredentialInput(credential_id=credential_id, change=change, sealed=sealed)
        await check_readable(self._client, wanted)
        return await self._execute(vault_id, workspace, UPDATE_CREDENTIAL_UPDATE, wanted, result=Credential)

    async def archive_credential(self, vault_id: VaultId, credential_id: CredentialId, *, workspace: str) -> Credential:
        """Drop its secrets and set its key free. May be repeated."""
        await self.credential(vault_id, credential_id, workspace=workspace)
        done = await self._shed(vault_id, workspace, ARCHIVE_CREDENTIAL_UPDATE, credential_id)
        return done.credential or await self.credential(vault_id, credential_id, workspace=workspace)

    async def delete_credential(self, vault_id: VaultId, credential_id: CredentialId, *, workspace: str) -> None:
        """Remove a credential and what was sealed of it."""
        await self.credential(vault_id, credential_id, workspace=workspace)
        await self._shed(vault_id, workspace, DELETE_CREDENTIAL_UPDATE, credential_id)

    async def validate(self, vault_id: VaultId, credential_id: CredentialId, *, workspace: str) -> CredentialValidation:
        """Try a credential on its server, from a worker."""
        found = await self.credential(vault_id, credential_id, workspace=workspace)
        if found.auth.type != "mcp_oauth":
            text = f"credential {credential_id!r} is of type {found.auth.type!r}; only mcp_oauth can be validated"
            raise InvalidRequestError(text, param="credential_id")
        return await self._execute(
            vault_id,
            workspace,
            VALIDATE_CREDENTIAL_UPDATE,
            credential_id,
            result=CredentialValidation,
            timeout=_VALIDATION,
        )

    async def credentials(
        self, vault_id: VaultId, *, workspace: str, include_archived: bool, limit: int, cursor: str | None
    ) -> Page[Credential]:
        """Credentials of a vault, newest first."""
        check_limit(limit)
        _, found = await self._shown(vault_id, workspace)
        newest = [each for each in reversed(found) if include_archived or each.archived_at is None]
        if cursor is not None:
            # By time, because what the page before ended with may be gone.
            newest = [each for each in newest if (each.created_at, each.id) < _position(cursor)]
        page = newest[:limit]
        return Page(page, _cursor(page[-1]) if len(newest) > limit else None)

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _shown(self, vault_id: VaultId, workspace: str) -> tuple[Vault, Sequence[Credential]]:
        with translated(self._address):
            info = await described_run(self._client, workflow_id(workspace, vault_id))
        if info is not None and info.type.name == VAULT_WORKFLOW and is_open(info):
            vault = await memo(self._client, info, VAULT_MEMO, Vault)
            keys = [key for key in info.memo.fields if key.startswith(CREDENTIAL_MEMO)]
            found = [await memo(self._client, info, key, Credential) for key in keys]
            if vault is not None:
                credentials = [each for each in found if each is not None]
                return vault, sorted(credentials, key=lambda each: (each.created_at, each.id))
        raise VaultNotFoundError(vault_id)

    async def _shed(
        self,
        vault_id: VaultId,
        workspace: str,
        name: str,
        argument: object | None = None,
        *,
        timeout: timedelta = PATIENCE,
    ) -> ShedResult:
        """An update that takes secrets away, and then the histories that hold them."""
        done = await self._execute(vault_id, workspace, name, argument, result=ShedResult, timeout=timeout)
        if done.run_id:
            id = workflow_id(workspace, vault_id)
            if not await forget_runs(self._client, id, done.run_id, patience=PATIENCE):
                logger.warning("sealed secrets stay in the history of vault %s until its retention ends", vault_id)
        return done

    async def _execute(
        self,
        vault_id: VaultId,
        workspace: str,
        name: str,
        argument: object | None = None,
        *,
        result: type[R] | None,
        timeout: timedelta = PATIENCE,
    ) -> R:
        return await execute_update(
            self._client,
            workflow_id(workspace, vault_id),
            name,
            argument,
            result=result,
            missing=VaultNotFoundError(vault_id),
            task_queue=self._task_queue,
            timeout=timeout,
        )


def _sealed(
    sealer: Sealer,
    found: dict[SecretName, SecretStr],
    workspace: str,
    vault_id: VaultId,
    credential_id: CredentialId,
) -> Sealed:
    return {
        name: sealer.seal(secret.get_secret_value(), context=secret_context(workspace, vault_id, credential_id, name))
        for name, secret in found.items()
    }


def _check_future(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= datetime.now(UTC):
        path = "auth.expires_at"
        raise InvalidRequestError(f"{path}: {expires_at.isoformat()} is over; write a time to come", param=path)


def _cursor(last: Credential) -> str:
    return f"{last.created_at.isoformat()}/{last.id}".encode().hex()


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        at, _, id = bytes.fromhex(cursor).decode().partition("/")
        return datetime.fromisoformat(at), id
    except ValueError:
        text = f"page {cursor!r} is no cursor of ours; use next_page of a list"
        raise InvalidRequestError(text, param="page") from None
