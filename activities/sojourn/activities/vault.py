"""What a session's vaults hold for it: tokens for MCP servers, and variables for its sandbox."""

import asyncio
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from sojourn.activities.sealed import PATIENCE, Secrets, explained, read_vault
from sojourn.types.chain import is_missing
from sojourn.types.credential import (
    CredentialEntry,
    EnvironmentVariable,
    InjectionLocation,
    McpOAuth,
    SecretNetwork,
    StaticBearer,
    normalized_url,
)
from sojourn.types.error import SojournError
from sojourn.types.id import CredentialId, VaultId, workflow_id
from sojourn.types.name import REFRESH_CREDENTIAL_UPDATE
from sojourn.types.seal import Sealer
from sojourn.types.secret import SecretName
from sojourn.types.session import SessionInput
from sojourn.types.vault import RefreshCredentialInput, TokenRefresh, VaultState
from sojourn.types.vault_error import McpAuthenticationError, SecretError, VaultKeyMissingError, VaultUnavailableError

logger = logging.getLogger("sojourn.activities")

FRESH = timedelta(seconds=20)
"""How long what was read of a vault counts, and how long a token that could not be renewed is left alone."""

_EARLY = timedelta(seconds=60)
"""So long before its end a token is renewed: it has to last for the call that it is for."""

_RENEWAL = timedelta(seconds=50)
_AGAIN = timedelta(milliseconds=100)
_MOST_VAULTS = 1000

_PASSING = (
    RPCStatusCode.ABORTED,
    RPCStatusCode.FAILED_PRECONDITION,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.UNAVAILABLE,
)
"""An update that was not taken; asked again it comes to the same."""


@dataclass(frozen=True)
class SecretVariable:
    """A variable of the sandbox, and the secret that it stands for."""

    name: str
    placeholder: str
    """What the sandbox sees: the same all through a session, and not to be guessed."""
    value: SecretStr
    """Takes its place in requests, where it is allowed. It may hold line breaks, which no header may."""
    networking: SecretNetwork
    injection_location: InjectionLocation


@dataclass(frozen=True)
class _Read:
    state: VaultState | None
    until: float


@dataclass(frozen=True)
class _Found:
    """The credential of a session for a server."""

    workspace: str
    vault_id: VaultId
    entry: CredentialEntry
    url: str

    @property
    def id(self) -> CredentialId:
        return self.entry.credential.id

    def failed(self, reason: str) -> McpAuthenticationError:
        return McpAuthenticationError(self.url, reason=reason, credential_id=self.id)


class VaultReader:
    """Finds what a session's vaults hold. One for each worker: what it has read counts for 20 seconds."""

    def __init__(
        self,
        client: Client,
        *,
        sealer: Sealer | None = None,
        fresh: timedelta = FRESH,
        patience: timedelta = PATIENCE,
    ) -> None:
        """Use a client.

        Args:
            client: Connected to the namespace of the vaults.
            sealer: Opens secrets; ``None`` takes the keys of the environment, once they are needed.
            fresh: How long what was read of a vault counts.
            patience: How long reading a vault may take.
        """
        self._client = client
        self._secrets = Secrets(sealer)
        self._fresh_seconds = fresh.total_seconds()
        self._patience = patience
        self._read: OrderedDict[tuple[str, VaultId], _Read] = OrderedDict()
        self._reading: dict[tuple[str, VaultId], asyncio.Task[VaultState | None]] = {}
        self._renewing: dict[CredentialId, asyncio.Task[TokenRefresh]] = {}
        self._failures: OrderedDict[tuple[CredentialId, int], tuple[str, float]] = OrderedDict()

    async def bearer(self, start: SessionInput, url: str) -> str | None:
        """The token for a server, renewed if it has expired; ``None`` if no vault of the session has one.

        Raises:
            McpAuthenticationError: There is one, and it cannot be used.
        """
        found = await self._find(start, url)
        if found is None:
            return None
        auth, now = found.entry.credential.auth, datetime.now(UTC)
        if isinstance(auth, McpOAuth) and auth.refresh and auth.expires_at and auth.expires_at - _EARLY <= now:
            try:
                return await self._renewed(start, found)
            except McpAuthenticationError:
                if auth.expires_at <= now:
                    raise
        return self._token(found)

    async def refreshed(self, start: SessionInput, url: str, *, rejected: str | None = None) -> str | None:
        """Another token for a server that has refused one; ``None`` if no vault of the session has any.

        Args:
            start: The session.
            url: The server.
            rejected: The token that it has refused. If there is a newer one, that is given, and nothing is renewed.

        Raises:
            McpAuthenticationError: There is no other.
        """
        before = await self._find(start, url)
        self._forget(start)
        found = await self._find(start, url)
        if found is None:
            return None
        token = self._token(found)
        known = before is not None and before.id == found.id and before.entry.generation == found.entry.generation
        if token != rejected if rejected is not None else not known:
            return token
        auth = found.entry.credential.auth
        if not isinstance(auth, McpOAuth) or auth.refresh is None:
            raise found.failed("the server refuses it")
        return await self._renewed(start, found)

    async def variables(self, start: SessionInput) -> list[SecretVariable]:
        """The variables for a session's sandbox; of two of one name, that of the first vault.

        One that does not open is left out, with a warning in the log.

        Raises:
            VaultUnavailableError: A vault cannot be read now.
        """
        workspace = start.owner.workspace
        found: dict[str, SecretVariable] = {}
        for vault_id in start.vault_ids:
            state = await self._vault(workspace, vault_id)
            for entry in state.active if state is not None else ():
                auth = entry.credential.auth
                if not isinstance(auth, EnvironmentVariable) or auth.secret_name in found:
                    continue
                try:
                    found[auth.secret_name] = self._variable(start, entry, auth)
                except (SecretError, VaultKeyMissingError) as error:
                    logger.warning("variable %s is left out: %s", auth.secret_name, explained(error))
        return list(found.values())

    def _variable(self, start: SessionInput, entry: CredentialEntry, auth: EnvironmentVariable) -> SecretVariable:
        workspace = start.owner.workspace
        key = self._secrets.open(workspace, entry, "placeholder_key").get_secret_value()
        message = f"{workspace}/{start.session_id}/{entry.credential.id}"
        return SecretVariable(
            name=auth.secret_name,
            placeholder=f"sojourn-secret-{hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()[:48]}",
            value=self._secrets.open(workspace, entry, "secret_value"),
            networking=auth.networking,
            injection_location=auth.injection_location,
        )

    # --- finding ---------------------------------------------------------------------------------------------------

    async def _find(self, start: SessionInput, url: str) -> _Found | None:
        try:
            key = normalized_url(url)
        except ValueError:
            return None
        workspace = start.owner.workspace
        for vault_id in start.vault_ids:
            try:
                state = await self._vault(workspace, vault_id)
            except VaultUnavailableError as error:
                raise McpAuthenticationError(url, reason=explained(error)) from None
            for entry in state.active if state is not None else ():
                auth = entry.credential.auth
                if isinstance(auth, McpOAuth | StaticBearer) and auth.key == key:
                    return _Found(workspace, vault_id, entry, url)
        return None

    def _token(self, found: _Found) -> str:
        name: SecretName = "token" if isinstance(found.entry.credential.auth, StaticBearer) else "access_token"
        try:
            return self._secrets.open(found.workspace, found.entry, name).get_secret_value()
        except (SecretError, VaultKeyMissingError) as error:
            raise found.failed(explained(error)) from None

    async def _vault(self, workspace: str, vault_id: VaultId) -> VaultState | None:
        key = (workspace, vault_id)
        if (known := self._read.get(key)) is not None and time.monotonic() < known.until:
            return known.state
        if (reading := self._reading.get(key)) is None:
            reading = self._reading[key] = asyncio.create_task(self._ask(workspace, vault_id))
            reading.add_done_callback(lambda done: self._keep(key, done))
        # Shielded: whoever else waits for it must not suffer from one who stops.
        return await asyncio.shield(reading)

    async def _ask(self, workspace: str, vault_id: VaultId) -> VaultState | None:
        return await read_vault(self._client, workspace, vault_id, patience=self._patience)

    def _keep(self, key: tuple[str, VaultId], done: asyncio.Task[VaultState | None]) -> None:
        failed = done.cancelled() or done.exception() is not None
        if self._reading.get(key) is not done:
            # It began before somebody knew of a change.
            return
        del self._reading[key]
        if failed:
            return
        self._read[key] = _Read(done.result(), time.monotonic() + self._fresh_seconds)
        self._read.move_to_end(key)
        while len(self._read) > _MOST_VAULTS:
            self._read.popitem(last=False)

    def _forget(self, start: SessionInput) -> None:
        for vault_id in start.vault_ids:
            self._read.pop((start.owner.workspace, vault_id), None)
            self._reading.pop((start.owner.workspace, vault_id), None)

    # --- renewing --------------------------------------------------------------------------------------------------

    async def _renewed(self, start: SessionInput, found: _Found) -> str:
        """The token after a renewal, which happens once however many ask for it, here or on other workers."""
        mark = (found.id, found.entry.generation)
        reason, until = self._failures.get(mark, ("", 0.0))
        if time.monotonic() < until:
            raise found.failed(reason)
        if (renewing := self._renewing.get(found.id)) is None:
            renewing = self._renewing[found.id] = asyncio.create_task(self._renew(found))
            renewing.add_done_callback(lambda _: self._renewing.pop(found.id, None))
        outcome = await asyncio.shield(renewing)
        self._forget(start)
        if outcome.status != "succeeded":
            reason = outcome.reason or outcome.status
            self._failures[mark] = (reason, time.monotonic() + self._fresh_seconds)
            while len(self._failures) > _MOST_VAULTS:
                self._failures.popitem(last=False)
            raise found.failed(reason)
        after = await self._find(start, found.url)
        if after is None:
            raise found.failed("it was archived meanwhile")
        return self._token(after)

    async def _renew(self, found: _Found) -> TokenRefresh:
        handle = self._client.get_workflow_handle(workflow_id(found.workspace, found.vault_id))
        wanted = RefreshCredentialInput(credential_id=found.id, generation=found.entry.generation)
        try:
            async with asyncio.timeout(_RENEWAL.total_seconds()):
                while True:
                    try:
                        outcome: TokenRefresh = await handle.execute_update(
                            REFRESH_CREDENTIAL_UPDATE, wanted, result_type=TokenRefresh
                        )
                        return outcome
                    except RPCError as error:
                        if not (error.status in _PASSING or (is_missing(error) and await self._is_there(found))):
                            return TokenRefresh(status="connect_error", reason="its vault does not answer")
                    await asyncio.sleep(_AGAIN.total_seconds())
        except WorkflowUpdateFailedError as error:
            return TokenRefresh(status="failed", reason=str(error.cause)[:300])
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            return TokenRefresh(status="connect_error", reason="its vault does not answer in time")

    async def _is_there(self, found: _Found) -> bool:
        """An update is lost with the task or the run that should have taken it; then the vault itself is there."""
        try:
            return await self._ask(found.workspace, found.vault_id) is not None
        except SojournError:
            return True


__all__ = ["FRESH", "SecretVariable", "VaultReader"]
