"""Sealed secrets on a worker: read from their vault's workflow, opened with the operator's key, kept nowhere."""

from datetime import timedelta

from pydantic import SecretStr
from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition
from temporalio.service import RPCError

from sojourn.types.chain import is_missing
from sojourn.types.credential import CredentialEntry, Sealed, secret_context
from sojourn.types.error import SojournError
from sojourn.types.id import VaultId, workflow_id
from sojourn.types.name import SEALED_QUERY
from sojourn.types.seal import Sealer
from sojourn.types.secret import SecretName
from sojourn.types.vault import VaultState
from sojourn.types.vault_error import SecretError, VaultKeyMissingError, VaultUnavailableError

PATIENCE = timedelta(seconds=15)
"""How long a worker may take to tell what a vault holds; it takes milliseconds where there is one."""


class Secrets:
    """Opens and seals the secrets of a workspace's credentials."""

    def __init__(self, sealer: Sealer | None = None) -> None:
        """Use a sealer; ``None`` takes the keys of the environment, once they are needed."""
        self._sealer = sealer

    def open(self, workspace: str, entry: CredentialEntry, name: SecretName) -> SecretStr:
        """A secret of a credential.

        Raises:
            SecretError: It does not open, or is not there.
            VaultKeyMissingError: This worker has no key.
        """
        if name not in entry.sealed:
            raise SecretError(f"credential {entry.credential.id!r} has no {name}; write it again", fault="unreadable")
        credential = entry.credential
        context = secret_context(workspace, credential.vault_id, credential.id, name)
        return SecretStr(self._keys.open(entry.sealed[name], context=context))

    def seal(self, workspace: str, entry: CredentialEntry, name: SecretName, secret: SecretStr) -> Sealed:
        """A new secret of a credential, sealed.

        Raises:
            SecretError: What seals is not installed.
            VaultKeyMissingError: This worker has no key.
        """
        credential = entry.credential
        context = secret_context(workspace, credential.vault_id, credential.id, name)
        return {name: self._keys.seal(secret.get_secret_value(), context=context)}

    def resealed(self, workspace: str, entry: CredentialEntry) -> Sealed:
        """All secrets of a credential, sealed with the first key; nothing if they are already.

        Raises:
            SecretError: One does not open.
            VaultKeyMissingError: This worker has no key.
        """
        if all(map(self._keys.is_current, entry.sealed.values())):
            return {}
        sealed: Sealed = {}
        for name in entry.sealed:
            sealed |= self.seal(workspace, entry, name, self.open(workspace, entry, name))
        return sealed

    @property
    def _keys(self) -> Sealer:
        if self._sealer is None:
            self._sealer = Sealer.from_environment()
        if self._sealer is None:
            raise VaultKeyMissingError
        return self._sealer


async def read_vault(
    client: Client, workspace: str, vault_id: VaultId, *, patience: timedelta = PATIENCE
) -> VaultState | None:
    """A vault with its active credentials, sealed; ``None`` if there is none.

    Raises:
        VaultUnavailableError: It cannot be told now.
    """
    handle = client.get_workflow_handle(workflow_id(workspace, vault_id))
    try:
        found: VaultState = await handle.query(
            SEALED_QUERY,
            result_type=VaultState,
            # What was deleted answers for a while.
            reject_condition=QueryRejectCondition.NOT_OPEN,
            rpc_timeout=patience,
        )
        return found
    except WorkflowQueryRejectedError:
        return None
    except WorkflowQueryFailedError as error:
        raise VaultUnavailableError(vault_id, reason=str(error)) from None
    except RPCError as error:
        if is_missing(error):
            return None
        raise VaultUnavailableError(vault_id, reason=" ".join(error.message.split())[:200]) from None


def explained(error: SojournError) -> str:
    """Why a secret cannot be had, without its way out for people at a terminal."""
    return str(error).partition(";")[0]
