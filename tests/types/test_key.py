from datetime import UTC, datetime, timedelta

import pytest

from sojourn.types import KeyId, KeyRefusedError, Owner
from sojourn.types.id import new_key_id
from sojourn.types.key import KeyRecord, KeyToken

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = KeyToken(KeyId("key_" + "0" * 32), "s" * 43)


def record(token: KeyToken = TOKEN, expires_at: datetime | None = None) -> KeyRecord:
    digest, owner = token.digest(), Owner("acme", "ada")
    return KeyRecord(
        id=token.key_id, name="ci", owner=owner, scopes=("read",), digest=digest, created_at=NOW, expires_at=expires_at
    )


def test_a_token_is_read_back() -> None:
    token = KeyToken(new_key_id(), "a-b_c" * 9)

    assert token.text.startswith("sk-sojourn-key_")
    assert KeyToken.read(token.text) == token


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "sk-ant-api03-x",
            "sk-sojourn-",
            TOKEN.text[:-1],
            TOKEN.text + "\n",
            TOKEN.text.upper(),
            TOKEN.text + "é",
        ),
        *(TOKEN.text.replace("key_", "env_"), TOKEN.text.replace("key_0", "key_/"), "x" * 100_000),
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(KeyRefusedError) as error:
        KeyToken.read(text)

    assert error.value.reason == "malformed"
    assert text not in str(error.value) or not text


def test_a_key_opens_for_its_own_secret_alone() -> None:
    assert record().opens(TOKEN)
    assert not record().opens(TOKEN._replace(secret="t" * 43))
    assert not record().opens(TOKEN._replace(key_id=new_key_id()))


def test_a_key_holds_until_it_expires() -> None:
    key = record(expires_at=NOW + timedelta(days=1))

    assert not key.is_expired(NOW)
    assert key.is_expired(NOW + timedelta(days=1))
    assert not record().is_expired(NOW + timedelta(days=10_000))


def test_neither_secret_nor_hash_is_in_a_representation() -> None:
    shown = f"{TOKEN!r} {TOKEN} {record()!r} {record()}"

    assert TOKEN.secret not in shown
    assert TOKEN.digest() not in shown
    assert TOKEN.secret not in record().model_dump_json()
