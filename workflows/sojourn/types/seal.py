"""Sealing secrets with the operator's key, so that Temporal and its backups hold nothing that opens anything.

A sealed text is ``s1.KEY.DATA``: the id of the key, then nonce and ciphertext of AES-256-GCM in URL-safe base64. What
it belongs to, the context, is authenticated with it: moved to another place it does not open.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from sojourn.types.vault_error import SecretError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEYS_VARIABLE = "SOJOURN_VAULT_KEYS"
"""``ID:KEY[,ID:KEY…]``: ids of the operator's choosing, keys of 32 bytes in base64. The first seals, all open."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
"""What AES-GCM is made for; random ones are safe for 2³² secrets of a key (NIST SP 800-38D)."""

_VERSION = "s1"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WAY_OUT = f"write {KEYS_VARIABLE} as ID:KEY[,ID:KEY…]; `sojourn vaults new-key` makes one"


class Sealer:
    """Seals and opens secrets. Its representation shows the ids of its keys, never a key."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Use keys of 32 bytes by their ids; the first seals.

        Raises:
            SecretError: There is none, or one is of another length or name.
        """
        if not keys:
            raise SecretError(f"there is no vault key; {_WAY_OUT}", fault="keys")
        for id, key in keys.items():
            if not _KEY_ID.fullmatch(id):
                raise SecretError(f"a vault key's id has 1 to 64 letters, digits, '_' or '-'; {_WAY_OUT}", fault="keys")
            if len(key) != _KEY_BYTES:
                raise SecretError(f"vault key {id!r} has {len(key)} bytes, not {_KEY_BYTES}; {_WAY_OUT}", fault="keys")
        self._keys = dict(keys)
        self._ciphers: dict[str, AESGCM] = {}

    def __repr__(self) -> str:
        return f"Sealer({', '.join(self._keys)})"

    def __reduce__(self) -> str:
        raise TypeError("a Sealer is not for copying: it holds the operator's keys")

    @classmethod
    def from_environment(cls) -> Self | None:
        """The sealer with the keys of ``SOJOURN_VAULT_KEYS``; ``None`` if it is not set.

        Raises:
            SecretError: It is written wrong.
        """
        text = os.environ.get(KEYS_VARIABLE, "").strip()
        return cls.read(text) if text else None

    @classmethod
    def read(cls, text: str) -> Self:
        """The sealer with keys as ``SOJOURN_VAULT_KEYS`` holds them.

        Raises:
            SecretError: They are written wrong. The message shows nothing of them but ids.
        """
        keys: dict[str, bytes] = {}
        for place, entry in enumerate(text.split(","), 1):
            id, colon, encoded = entry.strip().partition(":")
            if not colon or not _KEY_ID.fullmatch(id):
                # Without its colon an entry may well be a key.
                raise SecretError(f"entry {place} of {KEYS_VARIABLE} is no ID:KEY; {_WAY_OUT}", fault="keys")
            if id in keys:
                raise SecretError(f"{KEYS_VARIABLE} has two keys called {id!r}; give each its own id", fault="keys")
            try:
                keys[id] = base64.b64decode(encoded.strip().translate(_URL_SAFE), validate=True)
            except (binascii.Error, ValueError):
                raise SecretError(f"vault key {id!r} is no base64; {_WAY_OUT}", fault="keys") from None
        return cls(keys)

    def seal(self, text: str, *, context: str) -> str:
        """Encrypt with the first key.

        Args:
            text: The secret.
            context: What it belongs to; only with the same one it opens.

        Raises:
            SecretError: ``cryptography`` is not installed.
        """
        id = next(iter(self._keys))
        nonce = os.urandom(_NONCE_BYTES)
        data = nonce + self._cipher(id).encrypt(nonce, text.encode(), _associated(id, context))
        return f"{_VERSION}.{id}.{base64.urlsafe_b64encode(data).decode().rstrip('=')}"

    def is_current(self, sealed: str) -> bool:
        """Whether the first key sealed it."""
        return sealed.startswith(f"{_VERSION}.{next(iter(self._keys))}.")

    def open(self, sealed: str, *, context: str) -> str:
        """Decrypt with the key that it was sealed with.

        Raises:
            SecretError: That key is not here, it was changed, it belongs to something else, or ``cryptography`` is not
                installed.
        """
        version, _, rest = sealed.partition(".")
        id, _, encoded = rest.partition(".")
        if version != _VERSION or not _KEY_ID.fullmatch(id):
            raise SecretError("the stored secret has no form that is known here; store it again", fault="unreadable")
        if id not in self._keys:
            raise SecretError(
                f"the secret was sealed with vault key {id!r}, which this process does not have;"
                f" add it to {KEYS_VARIABLE} or store the secret again",
                fault="unknown_key",
            )
        cipher = self._cipher(id)
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _associated(id, context)).decode()
        except (InvalidTag, ValueError):
            raise SecretError(
                f"the stored secret does not open with vault key {id!r}: it was changed, belongs to something else, or"
                " the key is another one; store it again",
                fault="unreadable",
            ) from None

    def fingerprint(self, text: str) -> str:
        """A digest that tells nothing to those who lack the key, so that guesses cannot be tried on it."""
        key = next(iter(self._keys.values()))
        return hmac.new(key, b"sojourn fingerprint\0" + text.encode(), hashlib.sha256).hexdigest()

    def _cipher(self, id: str) -> "AESGCM":
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            text = 'sealing secrets needs `cryptography`; run pip install "sojourn[vault]"'
            raise SecretError(text, fault="library") from None
        if id not in self._ciphers:
            self._ciphers[id] = AESGCM(self._keys[id])
        return self._ciphers[id]


_URL_SAFE = str.maketrans("-_", "+/")


def _associated(id: str, context: str) -> bytes:
    return f"sojourn sealed\0{_VERSION}\0{id}\0{context}".encode()


def new_keys_line(id: str = "") -> str:
    """A fresh key as ``SOJOURN_VAULT_KEYS`` takes it.

    Args:
        id: What it is called; by default something random.

    Raises:
        SecretError: No key can be called that.
    """
    line = f"{id or f'k{os.urandom(4).hex()}'}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"
    Sealer.read(line)
    return line
