"""The errors about vaults, credentials and secrets; `sojourn.types.error` has the rest of the tree.

    SojournError
    ├── InvalidRequestError
    │   ├── CredentialLimitError     the vault is full
    │   └── VaultKeyMissingError     this process has no key to seal secrets with
    ├── NotFoundError
    │   ├── CredentialNotFoundError
    │   └── VaultNotFoundError
    ├── ConflictError
    │   ├── CredentialArchivedError
    │   ├── CredentialExistsError
    │   ├── CredentialKeyTakenError  an active credential of the vault is for the same server or variable
    │   ├── VaultArchivedError
    │   └── VaultExistsError
    ├── McpAuthenticationError       a server's credential cannot be used or renewed
    ├── SecretError                  a secret cannot be sealed or opened
    └── InternalError
        └── VaultUnavailableError    a vault cannot be read now

Each is an `sojourn.types.error.SojournError`, and travels as they do.
"""

from typing import Literal

from sojourn.types.error import ConflictError, InternalError, InvalidRequestError, NotFoundError, SojournError

SecretFault = Literal["keys", "library", "unknown_key", "unreadable"]
"""``keys``: the operator's keys are written wrong. ``library``: what seals is not installed. ``unknown_key``: it was
sealed with a key that this process does not have. ``unreadable``: it was changed, or belongs to something else."""


class SecretError(SojournError):
    """A secret cannot be sealed or opened. The message never holds one."""

    kind = "secret_error"

    fault: SecretFault = "unreadable"

    def __init__(self, message: str, *, fault: SecretFault) -> None:
        super().__init__(message, fault=fault)
        self.fault = fault


class VaultKeyMissingError(InvalidRequestError):
    """There is no key to seal secrets with."""

    def __init__(self) -> None:
        super().__init__(
            "no vault key here, so no secret can be stored; set SOJOURN_VAULT_KEYS for gateway, clients and workers"
            " (`sojourn vaults new-key` makes one; `sojourn up` keeps its own in the file vault-keys of its folder)",
            code="vault_key_missing",
        )


class CredentialLimitError(InvalidRequestError):
    """The vault holds as many active credentials as it can."""

    def __init__(self, vault_id: str, *, limit: int) -> None:
        super().__init__(
            f"vault {vault_id!r} has {limit} active credentials, the most there can be; archive or delete one",
            vault_id=vault_id,
            limit=limit,
        )
        self.vault_id = vault_id
        self.limit = limit


class VaultNotFoundError(NotFoundError):
    """No vault with this id in the workspace."""

    def __init__(self, vault_id: str) -> None:
        super().__init__(f"vault {vault_id!r} not found; `sojourn vaults list` shows what there is", vault_id=vault_id)
        self.vault_id = vault_id


class CredentialNotFoundError(NotFoundError):
    """No credential with this id in the vault."""

    def __init__(self, credential_id: str) -> None:
        super().__init__(
            f"credential {credential_id!r} not found; `sojourn credentials list` shows what the vault has",
            credential_id=credential_id,
        )
        self.credential_id = credential_id


class VaultArchivedError(ConflictError):
    """The vault takes no changes and no new sessions."""

    def __init__(self, vault_id: str) -> None:
        super().__init__(f"vault {vault_id!r} is archived; create a new one", vault_id=vault_id)
        self.vault_id = vault_id


class CredentialArchivedError(ConflictError):
    """The credential takes no changes; its secrets are gone."""

    def __init__(self, credential_id: str) -> None:
        super().__init__(
            f"credential {credential_id!r} is archived; create a new one with its secrets", credential_id=credential_id
        )
        self.credential_id = credential_id


class VaultExistsError(ConflictError):
    """The vault id is taken."""

    def __init__(self, vault_id: str) -> None:
        super().__init__(f"vault {vault_id!r} exists already; leave the id out to get a new one", vault_id=vault_id)
        self.vault_id = vault_id


class CredentialExistsError(ConflictError):
    """The credential id is taken."""

    def __init__(self, credential_id: str) -> None:
        super().__init__(
            f"credential {credential_id!r} exists already; leave the id out to get a new one",
            credential_id=credential_id,
        )
        self.credential_id = credential_id


class CredentialKeyTakenError(ConflictError):
    """An active credential of the vault has the same server or variable."""

    def __init__(self, key: str, *, credential_id: str) -> None:
        super().__init__(
            f"credential {credential_id!r} of the vault is for {key!r} already; change it, or archive it first",
            key=key,
            credential_id=credential_id,
        )
        self.key = key
        self.credential_id = credential_id


class McpAuthenticationError(SojournError):
    """The credential for a server cannot be used, or its token could not be renewed.

    Tools of that server fail with it, and the session goes on.
    """

    kind = "mcp_authentication_failed_error"

    url: str = ""
    credential_id: str | None = None

    def __init__(self, url: str, *, reason: str, credential_id: str | None = None) -> None:
        super().__init__(
            f"no valid credential for {url!r}: {reason}; look at it with `sojourn credentials validate`",
            url=url,
            credential_id=credential_id,
        )
        self.url = url
        self.credential_id = credential_id


class VaultUnavailableError(InternalError):
    """A vault cannot be read now. The same call works later."""

    def __init__(self, vault_id: str, *, reason: str) -> None:
        super().__init__(f"vault {vault_id!r} cannot be read: {reason}; try again", vault_id=vault_id, reason=reason)
        self.vault_id = vault_id
        self.reason = reason
