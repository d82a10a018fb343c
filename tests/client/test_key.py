"""API keys, on a real server without a worker."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sojourn.client.development import FILE, VAULT_FILE, development_key, development_sealer
from sojourn.client.key import KeyStore
from sojourn.types import InvalidRequestError, KeyId, KeyInfo, KeyNotFoundError, KeyRefusedError, SecretError
from sojourn.types.id import key_workflow_id, new_key_id
from sojourn.types.key import SCOPES, KeyToken

if TYPE_CHECKING:
    from tests.conftest import Eventually, Stage


@pytest.fixture
def keys(stage: "Stage") -> KeyStore:
    return KeyStore(stage.client, task_queue=stage.task_queue)


async def refused(keys: KeyStore, token: str) -> str:
    with pytest.raises(KeyRefusedError) as error:
        await keys.verify(token)
    assert str(error.value) == str(KeyRefusedError("unknown"))
    return error.value.reason


async def test_a_key_opens_what_it_was_made_for(stage: "Stage", keys: KeyStore) -> None:
    made = await keys.create("ci", owner=stage.owner, scopes=("control", "read"))

    found = await keys.verify(made.token)

    assert (found.id, found.name, found.owner, found.scopes) == (made.info.id, "ci", stage.owner, ("read", "control"))
    assert made.info.status == "active"
    assert (made.info.expires_at, made.info.revoked_at) == (None, None)


async def test_a_key_may_do_everything_by_default(stage: "Stage", keys: KeyStore) -> None:
    assert (await keys.create("ci", owner=stage.owner)).info.scopes == SCOPES


async def test_tokens_are_long_and_never_the_same(stage: "Stage", keys: KeyStore) -> None:
    one, two = [KeyToken.read((await keys.create("ci", owner=stage.owner)).token) for _ in range(2)]

    assert one.key_id != two.key_id
    assert one.secret != two.secret
    assert len(one.secret) >= 43


async def test_no_secret_reaches_the_server_or_a_representation(stage: "Stage", keys: KeyStore) -> None:
    await stage.work()
    made = await keys.create("ci", owner=stage.owner)
    secret = KeyToken.read(made.token).secret
    handle = stage.client.get_workflow_handle(key_workflow_id(made.info.id))
    described = (await handle.describe()).raw_description.SerializeToString()
    history = (await handle.fetch_history()).to_json()

    assert secret.encode() not in described
    assert secret not in history
    assert secret not in f"{made!r} {await keys.find(made.info.id)!r} {await keys.verify(made.token)!r}"


async def test_a_wrong_secret_of_a_key_opens_nothing(stage: "Stage", keys: KeyStore) -> None:
    mine, other = [KeyToken.read((await keys.create("ci", owner=stage.owner)).token) for _ in range(2)]

    assert await refused(keys, mine._replace(secret=other.secret).text) == "wrong_secret"
    assert await refused(keys, KeyToken(new_key_id(), mine.secret).text) == "unknown"
    assert await refused(keys, "sk-ant-api03-something") == "malformed"


async def test_a_key_that_has_expired_opens_nothing(stage: "Stage", keys: KeyStore, eventually: "Eventually") -> None:
    made = await keys.create("short", owner=stage.owner, expires_in=timedelta(seconds=1))

    async def over() -> bool:
        try:
            await keys.verify(made.token)
        except KeyRefusedError as error:
            return error.reason == "expired"
        return False

    await eventually(over, "the key has expired")

    async def closed() -> bool:
        return not (await keys.page(workspace=stage.owner.workspace, include_ended=False, limit=9, cursor=None)).data

    await eventually(closed, "the server has ended the key")
    assert await refused(keys, made.token) == "expired"
    ended = await keys.page(workspace=stage.owner.workspace, include_ended=True, limit=9, cursor=None)
    assert [(each.status, each.revoked_at) for each in ended.data] == [("expired", None)]


async def test_a_revoked_key_opens_nothing(stage: "Stage", keys: KeyStore) -> None:
    made = await keys.create("leaked", owner=stage.owner)

    revoked = await keys.revoke(made.info.id, workspace=stage.owner.workspace)
    again = await keys.revoke(made.info.id, workspace=stage.owner.workspace)

    assert revoked.status == "revoked"
    assert revoked.revoked_at is not None
    assert again == revoked
    assert await refused(keys, made.token) == "revoked"


async def test_a_key_of_another_workspace_is_neither_listed_nor_revoked(
    stage: "Stage", keys: KeyStore, eventually: "Eventually"
) -> None:
    made = await keys.create("mine", owner=stage.owner)

    with pytest.raises(KeyNotFoundError):
        await keys.revoke(made.info.id, workspace="elsewhere")
    for id in ("key_nothing", "", "../x"):
        with pytest.raises(KeyNotFoundError):
            await keys.revoke(KeyId(id), workspace=stage.owner.workspace)

    async def listed() -> bool:
        page = await keys.page(workspace=stage.owner.workspace, include_ended=False, limit=9, cursor=None)
        return list(page.data) == [made.info]

    await eventually(listed, "the key is listed")
    found = await keys.page(workspace="elsewhere", include_ended=True, limit=1000, cursor=None)
    assert made.info.id not in [each.id for each in found.data]
    assert (await keys.verify(made.token)).id == made.info.id


async def test_a_key_is_still_listed_after_it_was_revoked(
    stage: "Stage", keys: KeyStore, eventually: "Eventually"
) -> None:
    made = [await keys.create(name, owner=stage.owner) for name in "ab"]
    await keys.revoke(made[0].info.id, workspace=stage.owner.workspace)

    async def list_(include_ended: bool) -> list[KeyInfo]:
        page = await keys.page(workspace=stage.owner.workspace, include_ended=include_ended, limit=9, cursor=None)
        return list(page.data)

    async def shown() -> bool:
        active, every = await list_(False), await list_(True)
        return [each.name for each in active] == ["b"] and sorted(each.status for each in every) == [
            "active",
            "revoked",
        ]

    await eventually(shown, "one key is listed as active and one as revoked")


@pytest.mark.parametrize("scopes", [(), ("admin",), ("read", "everything")])
async def test_scopes_that_do_not_exist_are_refused(stage: "Stage", keys: KeyStore, scopes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await keys.create("ci", owner=stage.owner, scopes=scopes)

    assert error.value.param == "scopes"


@pytest.mark.parametrize("expires_in", [timedelta(0), timedelta(seconds=-1), timedelta(days=4000)])
async def test_a_life_that_is_none_is_refused(stage: "Stage", keys: KeyStore, expires_in: timedelta) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await keys.create("ci", owner=stage.owner, expires_in=expires_in)

    assert error.value.param == "expires_in"


@pytest.mark.parametrize("name", ["", " ", "n" * 257])
async def test_a_name_that_is_none_is_refused(stage: "Stage", keys: KeyStore, name: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await keys.create(name, owner=stage.owner)

    assert error.value.param == "name"


async def test_keys_are_no_sessions_and_no_agents(stage: "Stage", keys: KeyStore) -> None:
    await keys.create("ci", owner=stage.owner)

    assert list((await stage.runtime.list_sessions(every_user=True)).data) == []
    assert list((await stage.runtime.list_agents(include_archived=True)).data) == []


# --- the development key -------------------------------------------------------------------------------------------


async def dev(stage: "Stage", folder: Path) -> str:
    return await development_key(stage.client, folder, owner=stage.owner, task_queue=stage.task_queue)


async def test_the_development_key_is_made_once_for_a_folder(stage: "Stage", keys: KeyStore, tmp_path: Path) -> None:
    token = await dev(stage, tmp_path)

    found = await keys.verify(token)
    assert (found.owner, found.scopes) == (stage.owner, SCOPES)
    assert await dev(stage, tmp_path) == token
    assert os.listdir(tmp_path) == [FILE]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


async def test_a_server_that_has_forgotten_the_development_key_is_told_again(
    stage: "Stage", keys: KeyStore, tmp_path: Path
) -> None:
    token = KeyToken(new_key_id(), "s" * 43)
    (tmp_path / FILE).write_text(token.text + "\n")
    (tmp_path / FILE).chmod(0o644)

    assert await dev(stage, tmp_path) == token.text
    assert (await keys.verify(token.text)).id == token.key_id
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


async def test_a_revoked_development_key_is_made_anew(stage: "Stage", keys: KeyStore, tmp_path: Path) -> None:
    token = await dev(stage, tmp_path)
    await keys.revoke(KeyToken.read(token).key_id, workspace=stage.owner.workspace)

    fresh = await dev(stage, tmp_path)

    assert fresh != token
    assert await refused(keys, token) == "revoked"
    assert (await keys.verify(fresh)).created_at <= datetime.now(UTC)
    assert await dev(stage, tmp_path) == fresh


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff\xfe"])
async def test_a_spoilt_file_of_the_development_key_is_replaced(
    stage: "Stage", keys: KeyStore, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / FILE).write_bytes(content)

    token = await dev(stage, tmp_path)

    assert (tmp_path / FILE).read_text() == token + "\n"
    assert (await keys.verify(token)).owner == stage.owner


async def test_a_folder_that_cannot_be_written_is_named(stage: "Stage", tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await dev(stage, tmp_path / "nowhere")

    assert "nowhere" in str(error.value)


async def test_the_development_key_of_vaults_is_made_once_for_a_folder(tmp_path: Path) -> None:
    first, second = await development_sealer(tmp_path), await development_sealer(tmp_path)

    path = tmp_path / VAULT_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert second.open(first.seal("secret", context="c"), context="c") == "secret"
    assert repr(first) == "Sealer(development)"


async def test_a_spoilt_key_of_vaults_is_not_replaced(tmp_path: Path) -> None:
    """What it has sealed may open again when somebody has put it right."""
    (tmp_path / VAULT_FILE).write_text("spoilt")

    with pytest.raises(SecretError):
        await development_sealer(tmp_path)
    assert (tmp_path / VAULT_FILE).read_text() == "spoilt"
    with pytest.raises(InvalidRequestError):
        await development_sealer(tmp_path / "nowhere")
