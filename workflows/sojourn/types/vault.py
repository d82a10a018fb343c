"""Vaults: what holds credentials for sessions, and how it changes (Managed Agents API §1.7).

The rules stand here and not in the workflow, so that they can be read and tested without a server.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from sojourn.types.credential import (
    Credential,
    CredentialAuth,
    CredentialChange,
    CredentialEntry,
    DisplayName,
    McpOAuth,
    Sealed,
)
from sojourn.types.environment import Patch
from sojourn.types.error import InvalidRequestError
from sojourn.types.id import CredentialId, VaultId
from sojourn.types.vault_error import (
    CredentialArchivedError,
    CredentialExistsError,
    CredentialKeyTakenError,
    CredentialLimitError,
    CredentialNotFoundError,
    VaultArchivedError,
)
from sojourn.types.wire import Metadata, Omitted, Wire

MAX_CREDENTIALS = 20
"""Active ones in a vault (Managed Agents API §1.7)."""

MAX_ARCHIVED = 20
"""Archived credentials that a vault still shows, the last ones: they have no secrets and open nothing."""

MAX_VAULTS = 50
"""Of one session."""

VaultIds = Annotated[tuple[VaultId, ...], Field(max_length=MAX_VAULTS)]


class VaultDefinition(Wire):
    """A new vault."""

    display_name: DisplayName
    metadata: Metadata = {}


class Vault(VaultDefinition):
    """A vault as stored. It belongs to the whole workspace."""

    id: VaultId
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None


class VaultChange(Patch):
    """A change to a vault. What is left out stays, and so does what is ``None``."""

    display_name: DisplayName | None = None
    metadata: dict[str, str | None] | None = None
    """A merge patch: ``None`` as a value removes the key."""

    def applied(self, vault: Vault) -> Vault:
        """The vault after the change. Its times are not touched.

        Raises:
            InvalidRequestError: The metadata would be none.
        """
        changes: dict[str, object] = {}
        if self.display_name is not None:
            changes["display_name"] = self.display_name
        if self.metadata:
            changes["metadata"] = _patched(vault.metadata, self.metadata)
        return vault.model_copy(update=changes)


class AddCredentialInput(Wire):
    """A new credential on its way to its vault."""

    id: CredentialId
    display_name: DisplayName | None = None
    auth: CredentialAuth
    metadata: Metadata = {}
    sealed: Sealed

    def entry(self, vault_id: VaultId, now: datetime) -> CredentialEntry:
        """As the vault keeps it."""
        credential = Credential(
            id=self.id,
            vault_id=vault_id,
            display_name=self.display_name,
            auth=self.auth,
            metadata=self.metadata,
            created_at=now,
            updated_at=now,
        )
        return CredentialEntry(credential=credential, sealed=self.sealed)


class ChangeCredentialInput(Wire):
    """A change to a credential on its way to its vault: without secrets, and beside it those that are new, sealed."""

    credential_id: CredentialId
    change: CredentialChange
    sealed: Sealed = {}


class ResealedCredential(Wire):
    """The secrets of a credential, sealed with another key."""

    credential_id: CredentialId
    generation: int
    """Of the secrets that were opened."""
    sealed: Sealed


class VaultState(Wire):
    """A vault with its credentials. Every method gives another one, or refuses."""

    vault: Vault
    credentials: Annotated[tuple[CredentialEntry, ...], Omitted] = ()
    """The oldest first."""

    @property
    def active(self) -> tuple[CredentialEntry, ...]:
        """Credentials that open something."""
        return tuple(each for each in self.credentials if each.is_active)

    def find(self, credential_id: CredentialId) -> CredentialEntry:
        """A credential.

        Raises:
            CredentialNotFoundError: The vault has none of this id.
        """
        for each in self.credentials:
            if each.credential.id == credential_id:
                return each
        raise CredentialNotFoundError(credential_id)

    def changed(self, change: VaultChange, now: datetime) -> Self:
        """With the change to the vault itself.

        Raises:
            InvalidRequestError: The result would be none.
            VaultArchivedError: It cannot change any more.
        """
        self._check_open()
        after = change.applied(self.vault)
        if after == self.vault:
            return self
        return self.model_copy(update={"vault": after.model_copy(update={"updated_at": now})})

    def archived(self, now: datetime) -> Self:
        """Archived, with all its credentials. Repeating it changes nothing."""
        if self.vault.archived_at is not None:
            return self
        vault = self.vault.model_copy(update={"archived_at": now, "updated_at": now})
        return self.model_copy(
            update={"vault": vault, "credentials": tuple(_archived(each, now) for each in self.credentials)}
        )

    def added(self, wanted: AddCredentialInput, now: datetime) -> Self:
        """With one more credential.

        Raises:
            CredentialExistsError: The id is taken.
            CredentialKeyTakenError: An active credential is for the same.
            CredentialLimitError: The vault is full.
            VaultArchivedError: It cannot change any more.
        """
        self._check_open()
        if any(each.credential.id == wanted.id for each in self.credentials):
            raise CredentialExistsError(wanted.id)
        for each in self.active:
            if each.credential.auth.key == wanted.auth.key:
                raise CredentialKeyTakenError(wanted.auth.key, credential_id=each.credential.id)
        if len(self.active) >= MAX_CREDENTIALS:
            raise CredentialLimitError(self.vault.id, limit=MAX_CREDENTIALS)
        return self._with((*self.credentials, wanted.entry(self.vault.id, now)))

    def with_change(self, wanted: ChangeCredentialInput, now: datetime) -> Self:
        """With a change to a credential.

        Raises:
            CredentialArchivedError: It takes none.
            CredentialNotFoundError: The vault has none of this id.
            InvalidRequestError: The result would be none.
        """
        entry = self.find(wanted.credential_id)
        if not entry.is_active:
            raise CredentialArchivedError(wanted.credential_id)
        after = _changed(entry.credential, wanted.change)
        if after == entry.credential and not wanted.sealed:
            return self
        return self._replaced(_renewed(entry, after.model_copy(update={"updated_at": now}), wanted.sealed))

    def with_token(
        self, credential_id: CredentialId, sealed: Sealed, *, expires_at: datetime | None, now: datetime
    ) -> Self:
        """With a token that was renewed."""
        entry = self.find(credential_id)
        auth = entry.credential.auth
        if not isinstance(auth, McpOAuth) or not entry.is_active:
            return self
        changes = {"auth": auth.model_copy(update={"expires_at": expires_at}), "updated_at": now}
        return self._replaced(_renewed(entry, entry.credential.model_copy(update=changes), sealed))

    def with_resealed(self, resealed: ResealedCredential) -> Self:
        """With the same secrets sealed with another key: of the same generation, since for users nothing has changed.

        A credential that is gone or has changed since it was read stays as it is.
        """
        for entry in self.active:
            same = entry.credential.id == resealed.credential_id and entry.generation == resealed.generation
            if same and entry.sealed.keys() == resealed.sealed.keys():
                return self._replaced(entry.model_copy(update={"sealed": resealed.sealed}))
        return self

    def with_archived(self, credential_id: CredentialId, now: datetime) -> Self:
        """With a credential archived: its secrets are gone, its key is free. Repeating it changes nothing.

        Raises:
            CredentialNotFoundError: The vault has none of this id.
        """
        return self._replaced(_archived(self.find(credential_id), now))

    def without(self, credential_id: CredentialId) -> Self:
        """Without a credential.

        Raises:
            CredentialNotFoundError: The vault has none of this id.
        """
        gone = self.find(credential_id)
        return self._with(tuple(each for each in self.credentials if each is not gone))

    def _check_open(self) -> None:
        if self.vault.archived_at is not None:
            raise VaultArchivedError(self.vault.id)

    def _replaced(self, entry: CredentialEntry) -> Self:
        id = entry.credential.id
        return self._with(tuple(entry if each.credential.id == id else each for each in self.credentials))

    def _with(self, credentials: tuple[CredentialEntry, ...]) -> Self:
        shut = [each for each in credentials if not each.is_active]
        gone = {each.credential.id for each in shut[: max(0, len(shut) - MAX_ARCHIVED)]}
        kept = tuple(each for each in credentials if each.credential.id not in gone)
        return self.model_copy(update={"credentials": kept})


def _renewed(entry: CredentialEntry, credential: Credential, sealed: Sealed) -> CredentialEntry:
    generation = entry.generation + 1 if sealed else entry.generation
    return CredentialEntry(credential=credential, sealed={**entry.sealed, **sealed}, generation=generation)


def _archived(entry: CredentialEntry, now: datetime) -> CredentialEntry:
    if not entry.is_active:
        return entry
    credential = entry.credential.model_copy(update={"archived_at": now, "updated_at": now})
    return CredentialEntry(credential=credential, generation=entry.generation)


def _changed(credential: Credential, change: CredentialChange) -> Credential:
    changes: dict[str, object] = {"auth": change.applied_auth(credential.auth)}
    if "display_name" in change.model_fields_set:
        changes["display_name"] = change.display_name
    if change.metadata:
        changes["metadata"] = _patched(credential.metadata, change.metadata)
    return credential.model_copy(update=changes)


_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(Metadata)


def _patched(metadata: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    merged = {key: value for key, value in {**metadata, **patch}.items() if value is not None}
    try:
        return _METADATA.validate_python(merged)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(("metadata", *map(str, first["loc"])))
        text = f"{path}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        raise InvalidRequestError(text, param=path, code="invalid_metadata") from None


class ResealReport(Wire):
    """What came of sealing the secrets of a vault with the first key."""

    resealed: tuple[CredentialId, ...] = ()
    """Credentials whose secrets another key had sealed."""
    failures: dict[CredentialId, str] = {}
    """Why a credential stays as it is, for people."""


class ShedResult(Wire):
    """What an update came to that takes secrets away."""

    run_id: Annotated[str, Omitted] = ""
    """The run whose history has held them; empty if there were none."""
    vault: Vault | None = None
    credential: Credential | None = None
    reseal: Annotated[ResealReport | None, Omitted] = None


class VaultInput(Wire):
    """What a `VaultWorkflow` run starts from."""

    workspace: str
    state: VaultState


# --- renewing and looking ------------------------------------------------------------------------------------------


class CredentialPlace(Wire):
    """Where a credential is."""

    workspace: str
    vault_id: VaultId
    credential_id: CredentialId


class ResealSecretsInput(Wire):
    """Which vault's secrets are to be sealed with the first key."""

    workspace: str
    vault_id: VaultId


class ResealSecretsResult(Wire):
    """Those that another key had sealed, and those that do not open."""

    credentials: tuple[ResealedCredential, ...] = ()
    failures: dict[CredentialId, str] = {}


class HttpAnswer(Wire):
    """What a server answered: cut to a few thousand characters, without the secrets that were sent."""

    status_code: int
    content_type: str = ""
    body: str = ""
    body_truncated: bool = False


class TokenRefresh(Wire):
    """What came of asking for a new token."""

    status: Literal["succeeded", "failed", "connect_error", "no_refresh_token"]
    reason: Annotated[str, Omitted] = ""
    """For people, when it did not succeed."""
    http_response: HttpAnswer | None = None
    """Only with ``failed``."""


class FetchTokenResult(Wire):
    """The same with the new token, sealed."""

    refresh: TokenRefresh
    sealed: Sealed = {}
    expires_at: datetime | None = None


class RefreshCredentialInput(Wire):
    """Asks for a token newer than the one of a generation."""

    credential_id: CredentialId
    generation: int


class McpProbe(Wire):
    """The call to a server that failed."""

    method: str
    http_response: HttpAnswer | None = None
    """``None`` if the server could not be reached."""


class ProbeCredentialResult(Wire):
    """Whether a server takes the credential."""

    verdict: Literal["accepted", "refused", "unknown"]
    failed: McpProbe | None = None


class CredentialValidation(Wire):
    """Whether a credential opens what it is for, tried on the server."""

    credential_id: CredentialId
    vault_id: VaultId
    has_refresh_token: bool
    status: Literal["valid", "invalid", "unknown"]
    mcp_probe: McpProbe | None = None
    refresh: TokenRefresh | None = None
    """``None`` if the server did not refuse the token."""
    validated_at: datetime
