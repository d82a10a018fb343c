"""Vaults and credentials on the wire (Managed Agents API §1.7). What clients write is `sojourn.types` itself."""

from datetime import datetime
from typing import Literal

from sojourn.types import Credential as StoredCredential
from sojourn.types import CredentialValidation
from sojourn.types import Vault as StoredVault
from sojourn.types.credential import CredentialAuth
from sojourn.types.vault import HttpAnswer, McpProbe, TokenRefresh
from sojourn.types.wire import Wire


class Vault(Wire):
    """A vault."""

    id: str
    type: Literal["vault"] = "vault"
    display_name: str
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class DeletedVault(Wire):
    """What is left of a vault."""

    id: str
    type: Literal["vault_deleted"] = "vault_deleted"


class Credential(Wire):
    """A credential, without its secrets."""

    id: str
    type: Literal["vault_credential"] = "vault_credential"
    vault_id: str
    display_name: str | None
    auth: CredentialAuth
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class DeletedCredential(Wire):
    """What is left of a credential."""

    id: str
    type: Literal["vault_credential_deleted"] = "vault_credential_deleted"


class Refresh(Wire):
    """What came of asking for a new token."""

    status: Literal["succeeded", "failed", "connect_error", "no_refresh_token"]
    http_response: HttpAnswer | None
    sojourn_reason: str | None
    """For people. An extension."""


class Validation(Wire):
    """Whether a credential opens what it is for."""

    type: Literal["vault_credential_validation"] = "vault_credential_validation"
    credential_id: str
    vault_id: str
    has_refresh_token: bool
    status: Literal["valid", "invalid", "unknown"]
    mcp_probe: McpProbe | None
    refresh: Refresh | None
    validated_at: datetime


def wire_vault(stored: StoredVault) -> Vault:
    """A vault as replies show it."""
    return Vault(**dict(stored))


def wire_credential(stored: StoredCredential) -> Credential:
    """A credential as replies show it."""
    return Credential(**dict(stored))


def wire_validation(found: CredentialValidation) -> Validation:
    """A validation as replies show it."""
    return Validation(**{**dict(found), "refresh": _refresh(found.refresh)})


def _refresh(found: TokenRefresh | None) -> Refresh | None:
    if found is None:
        return None
    return Refresh(status=found.status, http_response=found.http_response, sojourn_reason=found.reason or None)
