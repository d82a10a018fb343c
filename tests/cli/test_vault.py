import asyncio
from pathlib import Path
from typing import Any

import pytest

from sojourn.types.seal import KEYS_VARIABLE, Sealer, new_keys_line

OAUTH = """
display_name: tracker
auth:
  type: mcp_oauth
  mcp_server_url: https://mcp.example.com/mcp
  access_token: plain-access
  refresh:
    token_endpoint: https://login.example.com/token
    client_id: sojourn
    refresh_token: plain-refresh
    token_endpoint_auth: {type: none}
"""


@pytest.fixture
def keyed(sojourn: Any) -> Any:
    """The program with a vault key."""
    line = new_keys_line()
    return lambda *arguments, **more: sojourn(*arguments, **{KEYS_VARIABLE: line, **more})


async def test_a_new_key_is_one_line_that_can_be_used(sojourn: Any) -> None:
    printed, named = await asyncio.gather(
        sojourn("vaults", "new-key"), sojourn("vaults", "new-key", "--id", "mine", "--json")
    )

    sealer = Sealer.read(f"{named.document['keys']},{printed.out.strip()}")
    assert sealer.seal("x", context="c").startswith("s1.mine.")
    assert printed.out.count("\n") == 1


async def test_vault_and_credentials_live_from_create_to_delete(keyed: Any, tmp_path: Path) -> None:
    vault = (await keyed("vaults", "create", "--name", "team", "--metadata", "a=1")).out.strip()
    assert vault.startswith("vlt_")

    bearer, variable, oauth = await asyncio.gather(
        keyed("credentials", "create", vault, "--bearer", "https://two.example.com", stdin="plain-token\n"),
        keyed(
            *("credentials", "create", vault, "--variable", "KEY", "--host", "api.example.com"),
            *("--secret-env", "THE_SECRET", "--json"),
            THE_SECRET="plain-value",
        ),
        keyed("credentials", "create", vault, "-", stdin=OAUTH),
    )
    listed, shown, renamed = await asyncio.gather(
        keyed("credentials", "list", vault),
        keyed("credentials", "show", vault, variable.document["id"]),
        keyed("vaults", "update", vault, "--name", "crew", "--metadata", "a=", "--metadata", "b=2", "--json"),
    )

    assert (bearer.code, variable.code, oauth.code) == (0, 0, 0), bearer.err + variable.err + oauth.err
    assert variable.document["auth"]["networking"] == {"type": "limited", "allowed_hosts": ["api.example.com"]}
    assert {line.split("\t")[2] for line in listed.out.splitlines()[1:]} == {
        "https://two.example.com",
        "KEY",
        "https://mcp.example.com/mcp",
    }
    assert "api.example.com" in shown.out
    assert (renamed.document["display_name"], renamed.document["metadata"]) == ("crew", {"b": "2"})
    every = (bearer, variable, oauth, listed, shown)
    assert not any("plain-" in each.out + each.err for each in every)

    id = bearer.out.strip()
    changed, again, asked = await asyncio.gather(
        keyed("credentials", "update", vault, id, stdin="plain-new"),
        keyed("credentials", "create", vault, "--variable", "KEY", stdin="x"),
        keyed("credentials", "delete", vault, id),
    )
    assert (changed.code, again.code, asked.code, "--yes" in asked.err) == (0, 4, 2, True), changed.err

    assert (await keyed("credentials", "archive", vault, id, "--yes")).code == 0
    assert (await keyed("credentials", "delete", vault, id, "--yes")).code == 0
    assert (await keyed("vaults", "archive", vault, "--yes", "--json")).document["archived_at"] is not None
    assert (await keyed("vaults", "delete", vault, "--yes")).code == 0
    assert (await keyed("vaults", "show", vault)).code == 3


async def test_what_is_wrong_is_refused_without_its_secret(keyed: Any, sojourn: Any) -> None:
    vault = (await keyed("vaults", "create", "--name", "wrong")).out.strip()
    create = ("credentials", "create", vault)

    keyless, nothing, both, unset, empty, broken, unknown = await asyncio.gather(
        sojourn(*create, "--variable", "KEY", stdin="plain-x"),
        keyed(*create),
        keyed(*create, "--variable", "KEY", "--bearer", "https://a.com", stdin="plain-x"),
        keyed(*create, "--variable", "KEY", "--secret-env", "UNSET"),
        keyed(*create, "--variable", "KEY", stdin=""),
        keyed(*create, "-", stdin="auth: [plain-x\nplain-y: }"),
        keyed(*create, "-", stdin=OAUTH.replace("client_id", "client")),
    )

    ended = (keyless, nothing, both, unset, empty, broken, unknown)
    assert [each.code for each in ended] == [2] * 7, [each.err for each in ended]
    assert not any("plain-" in each.err for each in ended)
    assert KEYS_VARIABLE in keyless.err


async def test_vaults_are_sealed_anew_or_it_is_told_why_not(keyed: Any) -> None:
    """The program's worker has a key of its own, which opens nothing of this one's."""
    workspace = ("--workspace", "cli-reseal")
    vault = (await keyed("vaults", "create", "--name", "old", *workspace)).out.strip()
    assert (await keyed("vaults", "reseal", *workspace, "--json")).document == {
        "vaults": 1,
        "resealed": [],
        "failures": {},
    }
    id = (await keyed("credentials", "create", vault, "--variable", "KEY", *workspace, stdin="plain-x")).out.strip()

    failed, missing = await asyncio.gather(
        keyed("vaults", "reseal", *workspace), keyed("vaults", "reseal", "vlt_none", *workspace)
    )

    assert failed.code not in (0, missing.code)
    assert f"credential {id} stays as it is: " in failed.err
    assert "keep the old keys" in failed.err
    assert missing.code == 3
