import asyncio
from datetime import timedelta
from typing import Any

import pytest

from sojourn.cli.key import duration
from sojourn.client import AgentRuntime
from sojourn.client.key import KeyStore
from sojourn.types import InvalidRequestError, KeyRefusedError, Owner


async def test_key_is_made_listed_and_revoked(sojourn: Any, runtime: AgentRuntime, eventually: Any) -> None:
    keys = KeyStore(runtime.client, task_queue=runtime.task_queue)
    options = ("--name", "ci", "--scope", "read", "--scope", "write", "--expires-in", "30d", "--workspace", "cli-keys")
    made = await sojourn("keys", "create", *options)
    token = made.out.strip()

    assert made.code == 0, made.err
    assert token not in made.err
    key = await keys.verify(token)
    assert (key.name, key.owner, key.scopes) == ("ci", Owner("cli-keys", "ada"), ("read", "write"))
    assert key.expires_at == key.created_at + timedelta(days=30)
    assert key.id in made.err

    async def listed() -> bool:
        found = (await sojourn("keys", "list", "--workspace", "cli-keys", "--json")).document["data"]
        return [(each["id"], each["status"]) for each in found] == [(key.id, "active")]

    await eventually(listed, "the key is listed")
    text, elsewhere, foreign, unsure = await asyncio.gather(
        sojourn("keys", "list", "--workspace", "cli-keys"),
        sojourn("keys", "list", "--workspace", "cli-nobody", "--json"),
        sojourn("keys", "revoke", key.id, "--yes", "--workspace", "cli-nobody"),
        sojourn("keys", "revoke", key.id, "--workspace", "cli-keys"),
    )

    assert text.out.splitlines()[0].split("\t")[:4] == ["id", "name", "status", "scopes"]
    assert key.digest not in text.out
    assert elsewhere.document == {"data": [], "next_page": None}
    assert (foreign.code, unsure.code) == (3, 2)

    revoked = await sojourn("keys", "revoke", key.id, "--yes", "--workspace", "cli-keys", "--json")

    assert revoked.document["status"] == "revoked"
    with pytest.raises(KeyRefusedError):
        await keys.verify(token)


async def test_key_for_programs_is_one_document(sojourn: Any) -> None:
    made = (await sojourn("keys", "create", "--name", "all", "--json")).document

    assert made["token"].startswith(f"sk-sojourn-{made['key']['id']}-")
    assert made["key"]["scopes"] == ["read", "write", "control"]
    assert made["key"]["expires_at"] is None


async def test_wrong_scope_and_wrong_time_are_refused(sojourn: Any) -> None:
    scope, time, name = await asyncio.gather(
        sojourn("keys", "create", "--name", "x", "--scope", "everything", "--json"),
        sojourn("keys", "create", "--name", "x", "--expires-in", "soon", "--json"),
        sojourn("keys", "create", "--json"),
    )

    assert (scope.code, time.code, name.code) == (2, 2, 2)
    assert "everything" in scope.error["message"]
    assert "soon" in time.error["message"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), (" 2h ", 7200), ("1d", 86400), ("2w", 1209600), ("999999w", 604799395200)],
)
def test_time_is_read_as_people_write_it(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "1y", "1000000d", "30 d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        duration(text)


async def test_key_for_the_workers_of_an_environment_names_it(sojourn: Any, runtime: AgentRuntime) -> None:
    environment = await sojourn("environments", "create", "--name", "laptop", "--self-hosted", "--workspace", "cli-own")
    id = environment.out.strip()
    made = await sojourn("keys", "create", "--name", "laptop", "--environment", id, "--workspace", "cli-own")
    foreign = await sojourn("keys", "create", "--name", "x", "--environment", id, "--workspace", "cli-nobody")

    key = await KeyStore(runtime.client, task_queue=runtime.task_queue).verify(made.out.strip())
    assert (key.environment_id, key.name) == (id, "laptop")
    assert f"serve environment {id}" in made.err
    assert foreign.code != 0
    assert "environment" in foreign.err
