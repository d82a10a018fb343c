"""The cache of API keys, on a clock that the test moves; no server."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sojourn.client.key import FoundKey
from sojourn.gateway.verification import KeyCache, KeyMemory
from sojourn.types import InternalError, KeyId, KeyRefusedError, Owner, ServerUnavailableError
from sojourn.types.id import new_key_id
from sojourn.types.key import KeyRecord, KeyToken

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Keys:
    """Keys of a server that can be stopped, and counts what it is asked."""

    def __init__(self) -> None:
        self.keys: dict[KeyId, FoundKey] = {}
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.failure: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.time = 0.0

    def make(self, *, expires_at: datetime | None = None) -> KeyToken:
        token = KeyToken(new_key_id(), "s" * 43)
        digest, owner = token.digest(), Owner("acme", "ada")
        record = KeyRecord(
            id=token.key_id,
            name="ci",
            owner=owner,
            scopes=("read",),
            digest=digest,
            created_at=NOW,
            expires_at=expires_at,
        )
        self.keys[token.key_id] = FoundKey(record, None, None)
        return token

    def revoke(self, token: KeyToken) -> None:
        self.keys[token.key_id] = FoundKey(self.keys[token.key_id].record, "revoked", NOW)

    async def find(self, key_id: KeyId) -> FoundKey | None:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.answers.wait()
            if self.failure is not None:
                raise self.failure
            return self.keys.get(key_id)
        finally:
            self.at_once -= 1


@pytest.fixture
async def keys() -> Keys:
    return Keys()


@pytest.fixture
async def cache(keys: Keys) -> KeyCache:
    return cached(keys)


def cached(keys: Keys, *, size: int = 100) -> KeyCache:
    def now() -> datetime:
        return NOW + timedelta(seconds=keys.time)

    return KeyCache(keys, memory=KeyMemory(size=size), clock=lambda: keys.time, now=now)


async def refused(cache: KeyCache, token: KeyToken) -> str:
    with pytest.raises(KeyRefusedError) as error:
        await cache.verify(token.text)
    return error.value.reason


async def test_a_key_is_asked_about_once_in_five_seconds(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    for keys.time in (0, 1, 4.9):
        assert (await cache.verify(token.text)).id == token.key_id

    assert keys.asked == 1
    keys.time = 5
    await cache.verify(token.text)
    assert keys.asked == 2


async def test_a_revoked_key_opens_nothing_after_five_seconds(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    await cache.verify(token.text)

    keys.revoke(token)
    keys.time = 5

    assert await refused(cache, token) == "revoked"


async def test_a_key_that_is_made_after_it_was_tried_opens_within_a_second(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    found = keys.keys.pop(token.key_id)
    assert await refused(cache, token) == "unknown"
    keys.keys[token.key_id] = found

    assert await refused(cache, token) == "unknown"
    assert keys.asked == 1
    keys.time = 1
    assert (await cache.verify(token.text)).id == token.key_id


async def test_a_hundred_requests_at_once_ask_once(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    keys.answers.clear()
    requests = [asyncio.create_task(cache.verify(token.text)) for _ in range(100)]
    await asyncio.sleep(0)
    keys.answers.set()

    assert {key.id for key in await asyncio.gather(*requests)} == {token.key_id}
    assert keys.asked == 1


async def test_a_wrong_secret_is_found_out_without_asking_again(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    await cache.verify(token.text)

    for guess in "abc":
        assert await refused(cache, token._replace(secret=guess * 43)) == "wrong_secret"
    assert keys.asked == 1


async def test_what_is_no_token_is_not_asked_about(keys: Keys, cache: KeyCache) -> None:
    with pytest.raises(KeyRefusedError):
        await cache.verify("sk-ant-api03-x")

    assert keys.asked == 0


async def test_a_remembered_key_expires_on_time(keys: Keys, cache: KeyCache) -> None:
    token = keys.make(expires_at=NOW + timedelta(seconds=2))
    await cache.verify(token.text)

    keys.time = 2

    assert await refused(cache, token) == "expired"
    assert keys.asked == 1


async def test_a_known_key_holds_for_a_minute_without_a_server(keys: Keys, cache: KeyCache) -> None:
    token = keys.make(expires_at=NOW + timedelta(seconds=50))
    lasting = keys.make()
    for each in (token, lasting):
        await cache.verify(each.text)
    keys.failure = ServerUnavailableError("localhost:1")

    for keys.time in (6, 20, 49):
        assert (await cache.verify(token.text)).id == token.key_id
    keys.time = 59
    assert (await cache.verify(lasting.text)).id == lasting.key_id
    assert await refused(cache, token) == "expired"
    keys.time = 60
    with pytest.raises(InternalError):
        await cache.verify(lasting.text)


async def test_a_key_nobody_knows_is_not_refused_without_a_server(keys: Keys, cache: KeyCache) -> None:
    keys.failure = InternalError("busy")
    token = keys.make()

    with pytest.raises(InternalError):
        await cache.verify(token.text)
    keys.failure = None
    assert (await cache.verify(token.text)).id == token.key_id


async def test_a_server_that_is_away_is_asked_once_a_second(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    await cache.verify(token.text)
    keys.failure = ServerUnavailableError("localhost:1")
    for keys.time in (10, 10.2, 10.4, 10.9):
        await cache.verify(token.text)

    assert keys.asked == 2
    keys.time = 11
    await cache.verify(token.text)
    assert keys.asked == 3


async def test_a_caller_that_goes_away_does_not_take_the_answer_from_others(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    keys.answers.clear()
    gone, stays = [asyncio.create_task(cache.verify(token.text)) for _ in range(2)]
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    keys.answers.set()

    assert (await stays).id == token.key_id
    assert keys.asked == 1


async def test_an_error_that_nobody_waits_for_is_not_complained_about(keys: Keys, cache: KeyCache) -> None:
    token = keys.make()
    keys.failure = InternalError("busy")
    keys.answers.clear()
    gone = asyncio.create_task(cache.verify(token.text))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    keys.answers.set()

    with pytest.raises(InternalError):
        await cache.verify(token.text)


async def test_made_up_keys_neither_push_out_real_ones_nor_flood_the_server(keys: Keys) -> None:
    cache = cached(keys, size=3)
    token = keys.make()
    await cache.verify(token.text)
    keys.answers.clear()
    strangers = [asyncio.create_task(cache.verify(KeyToken(new_key_id(), "x" * 43).text)) for _ in range(200)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert keys.most_at_once <= 32
    keys.answers.set()
    outcomes = await asyncio.gather(*strangers, return_exceptions=True)
    assert {type(each) for each in outcomes} == {KeyRefusedError}
    asked = keys.asked
    await cache.verify(token.text)
    assert keys.asked == asked


async def test_the_least_used_key_is_forgotten_first(keys: Keys) -> None:
    cache = cached(keys, size=2)
    one, two, three = [keys.make() for _ in range(3)]
    for token in (one, two, one, three, one):
        await cache.verify(token.text)

    assert keys.asked == 3
    await cache.verify(two.text)
    assert keys.asked == 4


async def test_closing_gives_up_what_is_being_asked(keys: Keys, cache: KeyCache) -> None:
    keys.answers.clear()
    waiting = asyncio.create_task(cache.verify(keys.make().text))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await cache.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
