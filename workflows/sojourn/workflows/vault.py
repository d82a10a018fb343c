"""Vaults: one entity for each, with its credentials.

What is shown stands in the memo, so that any reader finds and lists it without a worker. The sealed secrets do not:
every list brings the memos of all its entries along, and a store of search attributes may hold as little as 64 KiB of
each. They are part of the workflow's state, which a query answers; whoever needs them runs on a worker anyway.

A token is renewed by an activity of the vault, so that it happens once however many sessions want it.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, VersioningBehavior
from temporalio.exceptions import ActivityError

from sojourn.workflows.refusal import refuse

with workflow.unsafe.imports_passed_through():
    from sojourn.types.credential import Credential, CredentialEntry, McpOAuth
    from sojourn.types.error import SojournError
    from sojourn.types.id import CredentialId
    from sojourn.types.name import (
        ADD_CREDENTIAL_UPDATE,
        ARCHIVE_CREDENTIAL_UPDATE,
        ARCHIVE_VAULT_UPDATE,
        CREDENTIAL_MEMO,
        DELETE_CREDENTIAL_UPDATE,
        FETCH_TOKEN_ACTIVITY,
        PROBE_CREDENTIAL_ACTIVITY,
        REFRESH_CREDENTIAL_UPDATE,
        RESEAL_SECRETS_ACTIVITY,
        RESEAL_VAULT_UPDATE,
        SEALED_QUERY,
        STATUS_ATTRIBUTE,
        UPDATE_CREDENTIAL_UPDATE,
        UPDATE_VAULT_UPDATE,
        VALIDATE_CREDENTIAL_UPDATE,
        VAULT_MEMO,
        VAULT_WORKFLOW,
    )
    from sojourn.types.vault import (
        AddCredentialInput,
        ChangeCredentialInput,
        CredentialPlace,
        CredentialValidation,
        FetchTokenResult,
        ProbeCredentialResult,
        RefreshCredentialInput,
        ResealReport,
        ResealSecretsInput,
        ResealSecretsResult,
        ShedResult,
        TokenRefresh,
        Vault,
        VaultChange,
        VaultInput,
        VaultState,
    )
    from sojourn.types.vault_error import CredentialArchivedError, VaultUnavailableError

_TRY = timedelta(seconds=30)
"""Of one request to a server out there, with everything around it."""
_WAIT = timedelta(seconds=60)
"""For a worker to take it, too: who asked waits no longer."""
_AGAIN = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=5)
_ONCE = RetryPolicy(maximum_attempts=1)
"""A refresh token may hold for one use: what was sent is not sent again."""


@workflow.defn(name=VAULT_WORKFLOW)
class VaultWorkflow:
    """One vault. It stays open when archived, so that it can still be listed and read."""

    @workflow.init
    def __init__(self, input: VaultInput) -> None:
        self._input = input
        self._state = input.state
        self._renewals: dict[CredentialId, asyncio.Task[TokenRefresh]] = {}
        self._leaves = False
        """Whether secrets were taken out: another run does not have them in its history."""

    @workflow.run
    async def run(self, input: VaultInput) -> None:
        """Live until it is deleted."""
        await workflow.wait_condition(lambda: self._leaves or workflow.info().is_continue_as_new_suggested())
        await workflow.wait_condition(workflow.all_handlers_finished)
        following = self._input.model_copy(update={"state": self._state})
        memo = {VAULT_MEMO: self._state.vault, **_shown(self._state)}
        workflow.continue_as_new(following, memo=memo)

    # --- the vault ---------------------------------------------------------------------------------------------

    @workflow.update(name=UPDATE_VAULT_UPDATE)
    def update(self, change: VaultChange) -> Vault:
        """Change what the change names."""
        self._become(self._state.changed(change, workflow.now()))
        return self._state.vault

    @update.validator
    def _may_update(self, change: VaultChange) -> None:
        try:
            self._state.changed(change, workflow.now())
        except SojournError as error:
            raise refuse(error) from None

    @workflow.update(name=ARCHIVE_VAULT_UPDATE)
    def archive(self) -> ShedResult:
        """Drop all secrets, and refuse new sessions and changes from now on. Repeating it changes nothing."""
        after = self._state.archived(workflow.now())
        run_id = self._shed(bool(self._state.active))
        if after is not self._state:
            self._become(after)
            workflow.upsert_search_attributes([STATUS_ATTRIBUTE.value_set("archived")])
        return ShedResult(run_id=run_id, vault=after.vault)

    @workflow.update(name=RESEAL_VAULT_UPDATE)
    async def reseal(self) -> ShedResult:
        """Have all secrets sealed with the first key of a worker. Repeating it changes nothing."""
        try:
            found: ResealSecretsResult = await workflow.execute_activity(
                RESEAL_SECRETS_ACTIVITY,
                ResealSecretsInput(workspace=self._input.workspace, vault_id=self._state.vault.id),
                result_type=ResealSecretsResult,
                start_to_close_timeout=_TRY,
                schedule_to_close_timeout=_WAIT,
                retry_policy=_AGAIN,
                summary="seal the secrets with the first key",
            )
        except ActivityError as error:
            reason = str(error.cause or error)[:300]
            raise refuse(VaultUnavailableError(self._state.vault.id, reason=reason)) from None
        done: list[CredentialId] = []
        failures = dict(found.failures)
        for each in found.credentials:
            after = self._state.with_resealed(each)
            if after is self._state:
                failures[each.credential_id] = "it was changed meanwhile; repeat this"
                continue
            self._become(after)
            done.append(each.credential_id)
        run_id = self._shed(bool(done))
        return ShedResult(run_id=run_id, reseal=ResealReport(resealed=tuple(done), failures=failures))

    # --- its credentials ---------------------------------------------------------------------------------------

    @workflow.update(name=ADD_CREDENTIAL_UPDATE)
    def add(self, wanted: AddCredentialInput) -> Credential:
        """Take one more."""
        self._become(self._state.added(wanted, workflow.now()))
        return self._state.find(wanted.id).credential

    @add.validator
    def _may_add(self, wanted: AddCredentialInput) -> None:
        try:
            self._state.added(wanted, workflow.now())
        except SojournError as error:
            raise refuse(error) from None

    @workflow.update(name=UPDATE_CREDENTIAL_UPDATE)
    def change(self, wanted: ChangeCredentialInput) -> Credential:
        """Change what the change names; sessions see it within half a minute."""
        self._become(self._state.with_change(wanted, workflow.now()))
        return self._state.find(wanted.credential_id).credential

    @change.validator
    def _may_change(self, wanted: ChangeCredentialInput) -> None:
        try:
            self._state.with_change(wanted, workflow.now())
        except SojournError as error:
            raise refuse(error) from None

    @workflow.update(name=ARCHIVE_CREDENTIAL_UPDATE)
    def archive_credential(self, credential_id: CredentialId) -> ShedResult:
        """Drop its secrets and set its key free. Repeating it changes nothing."""
        run_id = self._shed(self._state.find(credential_id).is_active)
        self._become(self._state.with_archived(credential_id, workflow.now()))
        return ShedResult(run_id=run_id, credential=self._state.find(credential_id).credential)

    @archive_credential.validator
    def _may_archive(self, credential_id: CredentialId) -> None:
        self._active_or_not(credential_id)

    @workflow.update(name=DELETE_CREDENTIAL_UPDATE)
    def delete(self, credential_id: CredentialId) -> ShedResult:
        """Forget it."""
        run_id = self._shed(self._state.find(credential_id).is_active)
        self._become(self._state.without(credential_id))
        return ShedResult(run_id=run_id)

    @delete.validator
    def _may_delete(self, credential_id: CredentialId) -> None:
        self._active_or_not(credential_id)

    @workflow.update(name=REFRESH_CREDENTIAL_UPDATE)
    async def refresh(self, wanted: RefreshCredentialInput) -> TokenRefresh:
        """Renew a token, unless it has been already since the generation that is named."""
        return await self._refreshed(wanted)

    @refresh.validator
    def _may_refresh(self, wanted: RefreshCredentialInput) -> None:
        self._active(wanted.credential_id)

    @workflow.update(name=VALIDATE_CREDENTIAL_UPDATE)
    async def validate(self, credential_id: CredentialId) -> CredentialValidation:
        """Try a credential on its server; a token that is refused is renewed and tried again."""
        generation = self._active(credential_id).generation
        found = await self._probe(credential_id)
        renewed: TokenRefresh | None = None
        if found.verdict == "refused":
            renewed = await self._refreshed(RefreshCredentialInput(credential_id=credential_id, generation=generation))
            if renewed.status == "succeeded":
                found = await self._probe(credential_id)
        status = {"accepted": "valid", "refused": "invalid", "unknown": "unknown"}[found.verdict]
        if renewed is not None and renewed.status == "connect_error":
            status = "unknown"
        return CredentialValidation.model_validate(
            {
                "credential_id": credential_id,
                "vault_id": self._state.vault.id,
                "has_refresh_token": self._has_refresh_token(credential_id),
                "status": status,
                "mcp_probe": found.failed,
                "refresh": renewed,
                "validated_at": workflow.now(),
            }
        )

    @validate.validator
    def _may_validate(self, credential_id: CredentialId) -> None:
        self._active(credential_id)

    @workflow.query(name=SEALED_QUERY)
    def sealed(self) -> VaultState:
        """The vault with its active credentials and their sealed secrets."""
        return self._state.model_copy(update={"credentials": self._state.active})

    # --- inside ------------------------------------------------------------------------------------------------

    async def _refreshed(self, wanted: RefreshCredentialInput) -> TokenRefresh:
        id = wanted.credential_id
        if (running := self._renewals.get(id)) is None:
            if self._active(id).generation > wanted.generation:
                return TokenRefresh(status="succeeded")
            if not self._has_refresh_token(id):
                return TokenRefresh(status="no_refresh_token", reason="it has no refresh token")
            running = self._renewals[id] = asyncio.create_task(self._renew(id))
        return await running

    async def _renew(self, id: CredentialId) -> TokenRefresh:
        before = self._active(id)
        try:
            found: FetchTokenResult = await workflow.execute_activity(
                FETCH_TOKEN_ACTIVITY,
                self._place(id),
                result_type=FetchTokenResult,
                start_to_close_timeout=_TRY,
                schedule_to_close_timeout=_WAIT,
                retry_policy=_ONCE,
                summary="renew an OAuth token",
            )
        except ActivityError as error:
            reason = f"the request was lost ({error.cause or error})"
            return TokenRefresh(status="connect_error", reason=reason[:300])
        finally:
            del self._renewals[id]
        now = next((each for each in self._state.active if each.credential.id == id), None)
        # Whoever has changed the secrets meanwhile knew better.
        if found.sealed and now is not None and now.generation == before.generation:
            self._become(self._state.with_token(id, found.sealed, expires_at=found.expires_at, now=workflow.now()))
        return found.refresh

    async def _probe(self, id: CredentialId) -> ProbeCredentialResult:
        try:
            found: ProbeCredentialResult = await workflow.execute_activity(
                PROBE_CREDENTIAL_ACTIVITY,
                self._place(id),
                result_type=ProbeCredentialResult,
                start_to_close_timeout=_TRY,
                schedule_to_close_timeout=_WAIT,
                retry_policy=_ONCE,
                summary="try a credential on its server",
            )
        except ActivityError:
            return ProbeCredentialResult(verdict="unknown")
        return found

    def _active(self, id: CredentialId) -> CredentialEntry:
        entry = self._active_or_not(id)
        if not entry.is_active:
            raise refuse(CredentialArchivedError(id))
        return entry

    def _active_or_not(self, id: CredentialId) -> CredentialEntry:
        try:
            return self._state.find(id)
        except SojournError as error:
            raise refuse(error) from None

    def _has_refresh_token(self, id: CredentialId) -> bool:
        auth = self._active_or_not(id).credential.auth
        return isinstance(auth, McpOAuth) and auth.refresh is not None

    def _shed(self, held: bool) -> str:
        """Leave the history behind in which there are secrets that were taken out."""
        self._leaves = self._leaves or held
        return workflow.info().run_id if held else ""

    def _place(self, id: CredentialId) -> CredentialPlace:
        return CredentialPlace(workspace=self._input.workspace, vault_id=self._state.vault.id, credential_id=id)

    def _become(self, after: VaultState) -> None:
        before, self._state = self._state, after
        was, is_now = _shown(before), _shown(after)
        memo: dict[str, object] = {key: each for key, each in is_now.items() if was.get(key) != each}
        memo |= dict.fromkeys(key for key in was if key not in is_now)
        if after.vault != before.vault:
            memo[VAULT_MEMO] = after.vault
        if memo:
            workflow.upsert_memo(memo)


def _shown(state: VaultState) -> dict[str, Credential]:
    return {f"{CREDENTIAL_MEMO}{each.credential.id}": each.credential for each in state.credentials}


@workflow.defn(name=VAULT_WORKFLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedVaultWorkflow(VaultWorkflow):
    """The same for workers with a version; see `VersionedAgentWorkflow`."""

    @workflow.init
    def __init__(self, input: VaultInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: VaultInput) -> None:
        """See `VaultWorkflow.run`."""
        await super().run(input)
