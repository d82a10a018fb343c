"""The keys of `sojourn up`, made once for each data folder and kept in files there: for its API, and for its vaults."""

import asyncio
import os
import secrets
from pathlib import Path
from tempfile import mkstemp

from temporalio.client import Client

from sojourn.client.key import KeyStore
from sojourn.types.error import ConflictError, InvalidRequestError, KeyRefusedError
from sojourn.types.id import new_key_id
from sojourn.types.key import KeyToken
from sojourn.types.name import TASK_QUEUE
from sojourn.types.seal import Sealer, new_keys_line
from sojourn.types.session import Owner

FILE = "development-key"
VAULT_FILE = "vault-keys"
_NAME = "development key"


async def development_key(
    client: Client, folder: Path, *, owner: Owner | None = None, task_queue: str = TASK_QUEUE
) -> str:
    """The token of the folder's development key, which may do everything in its workspace.

    It is made if there is none, and made anew if it was revoked. A server that has forgotten it is told again.

    Args:
        client: Connected to the server of the folder.
        folder: The data folder; it must exist.
        owner: As whom its holder acts; by default the default workspace's default user.
        task_queue: Where the workers are.

    Raises:
        InvalidRequestError: The file cannot be read or written.
    """
    keys, owner = KeyStore(client, task_queue=task_queue), owner or Owner()
    path = folder / FILE
    try:
        token = await asyncio.to_thread(_read, path)
        if token is not None and await _holds(keys, token, owner):
            return token.text
        token = KeyToken(new_key_id(), secrets.token_urlsafe(32))
        # The file first: a key that nobody has would stay on the server for ever.
        await asyncio.to_thread(_write, path, token.text)
        await keys.register(token, _NAME, owner=owner)
    except OSError as error:
        raise InvalidRequestError(
            f"the development key {str(path)!r} cannot be kept ({error.strerror}); choose another folder"
        ) from None
    return token.text


async def development_sealer(folder: Path) -> Sealer:
    """What seals the secrets of the folder's vaults. Its key is made if there is none.

    Args:
        folder: The data folder; it must exist. The file in it holds what ``SOJOURN_VAULT_KEYS`` would.

    Raises:
        InvalidRequestError: The file cannot be read or written.
        SecretError: It holds no keys. It is not made anew: with the old key all secrets would be gone.
    """
    path = folder / VAULT_FILE
    try:
        return Sealer.read(await asyncio.to_thread(_kept, path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidRequestError(
            f"the vault key {str(path)!r} cannot be kept ({reason}); choose another folder"
        ) from None


def _kept(path: Path) -> str:
    if not path.exists():
        _write(path, new_keys_line("development"))
    path.chmod(0o600)
    return path.read_text().strip()


async def _holds(keys: KeyStore, token: KeyToken, owner: Owner) -> bool:
    try:
        await keys.verify(token.text)
    except KeyRefusedError as refused:
        if refused.reason != "unknown":
            return False
        try:
            await keys.register(token, _NAME, owner=owner)
        except ConflictError:
            # Somebody else has told the server in this moment.
            return await _holds(keys, token, owner)
    return True


def _read(path: Path) -> KeyToken | None:
    try:
        # Whoever has opened it to others meant no harm, but they would act as we do.
        path.chmod(0o600)
        return KeyToken.read(path.read_text().strip())
    except (FileNotFoundError, KeyRefusedError, UnicodeDecodeError):
        return None


def _write(path: Path, text: str) -> None:
    """All or nothing, and readable for us alone from the first moment."""
    number, temporary = mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        # `mkstemp` gives the mode 0600.
        with os.fdopen(number, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
