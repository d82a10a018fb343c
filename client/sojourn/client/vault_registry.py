"""The vaults' part of `AgentRuntime`."""

from sojourn.client.listing import Page
from sojourn.client.vault import VaultStore
from sojourn.types.credential import Credential, CredentialChange, CredentialDefinition
from sojourn.types.id import CredentialId, VaultId
from sojourn.types.session import Owner
from sojourn.types.vault import CredentialValidation, ResealReport, Vault, VaultChange, VaultDefinition

AnyVault = Vault | VaultId | str
AnyCredential = Credential | CredentialId | str


class VaultRegistry:
    """Creates, changes and lists vaults and their credentials. They belong to the whole workspace.

    Secrets are written and never shown: they are sealed with the operator's key before they leave the process.
    """

    owner: Owner
    _vaults: VaultStore

    async def create_vault(
        self, definition: VaultDefinition, *, vault_id: VaultId | str | None = None, owner: Owner | None = None
    ) -> Vault:
        """Store a new vault in the owner's workspace. Needs no worker.

        Args:
            definition: What it is.
            vault_id: An id of your own, ``vlt_`` and letters or digits, to make at most one for something.
            owner: Whose workspace; by default the runtime's.

        Raises:
            VaultExistsError: The id is taken.
        """
        id = VaultId(vault_id) if vault_id is not None else None
        return await self._vaults.create(definition, workspace=_workspace(self, owner), vault_id=id)

    async def get_vault(self, vault: AnyVault, *, owner: Owner | None = None) -> Vault:
        """A vault as it is now. Needs no worker.

        Raises:
            VaultNotFoundError: There is none in the workspace.
        """
        return await self._vaults.get(_vault(vault), workspace=_workspace(self, owner))

    async def update_vault(self, vault: AnyVault, change: VaultChange, *, owner: Owner | None = None) -> Vault:
        """Change what the change names.

        Raises:
            InvalidRequestError: The result would be none.
            VaultArchivedError: It cannot change any more.
            VaultNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._vaults.update(_vault(vault), change, workspace=_workspace(self, owner))

    async def archive_vault(self, vault: AnyVault, *, owner: Owner | None = None) -> Vault:
        """Archive it with its credentials: their secrets are gone, and sessions that run find none any more.

        Repeating it changes nothing.

        Raises:
            VaultNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._vaults.archive(_vault(vault), workspace=_workspace(self, owner))

    async def reseal_vault(self, vault: AnyVault, *, owner: Owner | None = None) -> ResealReport:
        """Have the secrets of a vault sealed with the first key of ``SOJOURN_VAULT_KEYS``, as the workers have it.

        The old sealed texts leave the server with the history that held them. Repeating it changes nothing.

        Returns:
            Which credentials another key had sealed, and which of them still are.

        Raises:
            VaultNotFoundError: There is none in the workspace.
            VaultUnavailableError: No worker could read it.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._vaults.reseal(_vault(vault), workspace=_workspace(self, owner))

    async def delete_vault(self, vault: AnyVault, *, owner: Owner | None = None) -> None:
        """Remove it with its credentials and its history. Sessions that run find no credentials any more.

        Raises:
            VaultNotFoundError: There is none in the workspace, or it was deleted before.
        """
        await self._vaults.delete(_vault(vault), workspace=_workspace(self, owner))

    async def list_vaults(
        self,
        *,
        include_archived: bool = False,
        limit: int = 20,
        page: str | None = None,
        owner: Owner | None = None,
    ) -> Page[Vault]:
        """Vaults of the owner's workspace, newest first.

        Raises:
            InvalidRequestError: The limit or the cursor is none.
        """
        workspace = _workspace(self, owner)
        return await self._vaults.page(workspace=workspace, include_archived=include_archived, limit=limit, cursor=page)

    async def create_credential(
        self,
        vault: AnyVault,
        definition: CredentialDefinition,
        *,
        credential_id: CredentialId | str | None = None,
        owner: Owner | None = None,
    ) -> Credential:
        """Seal a new credential and put it into a vault.

        Args:
            vault: Which vault.
            definition: What it opens, and the secrets.
            credential_id: An id of your own, ``vcrd_`` and letters or digits, to make at most one for something.
            owner: Whose workspace; by default the runtime's.

        Raises:
            CredentialExistsError: The id is taken.
            CredentialKeyTakenError: An active credential of the vault is for the same server or variable.
            CredentialLimitError: The vault is full.
            SecretError: The operator's keys are written wrong, or what seals is not installed.
            VaultArchivedError: The vault takes no changes.
            VaultKeyMissingError: This process has no key.
            VaultNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        id = CredentialId(credential_id) if credential_id is not None else None
        workspace = _workspace(self, owner)
        return await self._vaults.add(_vault(vault), definition, workspace=workspace, credential_id=id)

    async def get_credential(
        self, vault: AnyVault, credential: AnyCredential, *, owner: Owner | None = None
    ) -> Credential:
        """A credential as it is now, without its secrets. Needs no worker.

        Raises:
            CredentialNotFoundError: The vault has none of this id.
            VaultNotFoundError: There is none in the workspace.
        """
        workspace = _workspace(self, owner)
        return await self._vaults.credential(_vault(vault), _credential(credential), workspace=workspace)

    async def update_credential(
        self, vault: AnyVault, credential: AnyCredential, change: CredentialChange, *, owner: Owner | None = None
    ) -> Credential:
        """Change what the change names, new secrets included. Running sessions see it within half a minute.

        Raises:
            CredentialArchivedError: It takes no changes.
            CredentialNotFoundError: The vault has none of this id.
            InvalidRequestError: Its type was to change, or the result would be none.
            SecretError: The operator's keys are written wrong, or what seals is not installed.
            VaultKeyMissingError: There is a new secret, and this process has no key.
            VaultNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        workspace = _workspace(self, owner)
        return await self._vaults.change(_vault(vault), _credential(credential), change, workspace=workspace)

    async def archive_credential(
        self, vault: AnyVault, credential: AnyCredential, *, owner: Owner | None = None
    ) -> Credential:
        """Drop its secrets; another credential may then be for the same. Repeating it changes nothing.

        Raises:
            CredentialNotFoundError: The vault has none of this id.
            VaultNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        workspace = _workspace(self, owner)
        return await self._vaults.archive_credential(_vault(vault), _credential(credential), workspace=workspace)

    async def delete_credential(
        self, vault: AnyVault, credential: AnyCredential, *, owner: Owner | None = None
    ) -> None:
        """Remove it and what was sealed of it.

        Raises:
            CredentialNotFoundError: The vault has none of this id, or it was deleted before.
            VaultNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        workspace = _workspace(self, owner)
        await self._vaults.delete_credential(_vault(vault), _credential(credential), workspace=workspace)

    async def validate_credential(
        self, vault: AnyVault, credential: AnyCredential, *, owner: Owner | None = None
    ) -> CredentialValidation:
        """Try an OAuth credential on its server, from a worker; a token that is refused is renewed first.

        Raises:
            CredentialArchivedError: It opens nothing any more.
            CredentialNotFoundError: The vault has none of this id.
            InvalidRequestError: It is of another type.
            VaultNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        workspace = _workspace(self, owner)
        return await self._vaults.validate(_vault(vault), _credential(credential), workspace=workspace)

    async def list_credentials(
        self,
        vault: AnyVault,
        *,
        include_archived: bool = False,
        limit: int = 20,
        page: str | None = None,
        owner: Owner | None = None,
    ) -> Page[Credential]:
        """Credentials of a vault, newest first, without their secrets. Needs no worker.

        Raises:
            InvalidRequestError: The limit or the cursor is none.
            VaultNotFoundError: There is none in the workspace.
        """
        return await self._vaults.credentials(
            _vault(vault),
            workspace=_workspace(self, owner),
            include_archived=include_archived,
            limit=limit,
            cursor=page,
        )

    def secret_fingerprint(self, text: str) -> str:
        """A digest of a text with a secret in it, on which nobody can try guesses who lacks the operator's key.

        Raises:
            SecretError: The operator's keys are written wrong.
            VaultKeyMissingError: This process has no key.
        """
        return self._vaults.sealer.fingerprint(text)


def _workspace(registry: VaultRegistry, owner: Owner | None) -> str:
    return (owner or registry.owner).workspace


def _vault(vault: AnyVault) -> VaultId:
    return vault.id if isinstance(vault, Vault) else VaultId(vault)


def _credential(credential: AnyCredential) -> CredentialId:
    return credential.id if isinstance(credential, Credential) else CredentialId(credential)
