"""`sojourn vaults …`."""

import sys
from collections.abc import AsyncGenerator
from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.client import AgentRuntime
from sojourn.types import InvalidRequestError, SecretError, Vault, VaultChange, VaultDefinition, parse
from sojourn.types.id import CredentialId
from sojourn.types.seal import KEYS_VARIABLE, new_keys_line

app = typer.Typer(help="Vaults: where the credentials of sessions are kept, sealed.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="VAULT", help="Id of the vault.")]
Pairs = Annotated[list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="Anything; repeat for more.")]


@command(app, "new-key", connects=False)
async def new_key(
    cli: Cli,
    id: Annotated[str, typer.Option("--id", metavar="ID", help="What the key is called; random by default.")] = "",
) -> None:
    """Print a new key for SOJOURN_VAULT_KEYS, which seals the secrets of credentials.

    Gateways, clients and workers need the same. To change keys, put the new one first and keep the old one behind it,
    with a comma between: the first seals, all open.
    """
    line = new_keys_line(id)
    cli.out.result({"keys": line}, line)
    cli.out.note(f"keep it where secrets are kept, and set {KEYS_VARIABLE} to it; without it no secret opens again")


@command(app, "create")
async def create(cli: Cli, name: Annotated[str, typer.Option(help="For people.")], metadata: Pairs = None) -> None:
    """Make a vault and print its id."""
    definition: VaultDefinition = parse(VaultDefinition, {"display_name": name, "metadata": pairs(metadata)})
    async with cli.runtime() as runtime:
        made = await runtime.create_vault(definition)
    cli.out.result(made, made.id)


@command(app, "list")
async def list_(
    cli: Cli,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries on a page.")] = 20,
    page: Annotated[str | None, typer.Option(help="Cursor of the page, from the page before.")] = None,
) -> None:
    """List the workspace's vaults, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_vaults(include_archived=archived, limit=limit, page=page)
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = [(each.id, each.display_name, each.created_at, "yes" if each.archived_at else None) for each in found.data]
    cli.out.table(("id", "name", "created", "archived"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


@command(app, "show")
async def show(cli: Cli, vault: Id) -> None:
    """Show a vault; `sojourn credentials list` shows what is in it."""
    async with cli.runtime() as runtime:
        found = await runtime.get_vault(vault)
    cli.out.result(found)
    if not cli.out.as_json:
        _show(cli, found)


@command(app, "update")
async def update(
    cli: Cli,
    vault: Id,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="KEY=VALUE", help="KEY= removes it; repeat for more."),
    ] = None,
) -> None:
    """Change a vault. What is left out stays."""
    given: dict[str, object] = {} if name is None else {"display_name": name}
    if metadata:
        given["metadata"] = {key: value or None for key, value in pairs(metadata).items()}
    async with cli.runtime() as runtime:
        found = await runtime.update_vault(vault, parse(VaultChange, given))
    cli.out.result(found, f"vault {found.id} is changed")


@command(app, "archive")
async def archive(
    cli: Cli, vault: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Drop all secrets of a vault, and refuse new sessions with it."""
    confirm(f"Archive vault {vault} and drop its secrets?", yes=yes)
    async with cli.runtime() as runtime:
        found = await runtime.archive_vault(vault)
    cli.out.result(found, f"vault {found.id} is archived")


@command(app, "reseal")
async def reseal(
    cli: Cli,
    vault: Annotated[str | None, typer.Argument(metavar="[VAULT]", help="One vault; by default all of them.")] = None,
) -> None:
    """Seal the secrets of vaults with the workers' first key, after a change of keys.

    When it has ended without a failure, the keys behind the first one seal nothing in these vaults any more.
    """
    done: list[str] = []
    failures: dict[CredentialId, str] = {}
    async with cli.runtime() as runtime:
        vaults = [vault] if vault is not None else [each.id async for each in _every(runtime)]
        for id in vaults:
            report = await runtime.reseal_vault(id)
            done += report.resealed
            failures |= report.failures
    for credential_id, reason in failures.items():
        cli.out.note(f"credential {credential_id} stays as it is: {reason}")
    document = {"vaults": len(vaults), "resealed": done, "failures": failures}
    cli.out.result(document, f"sealed {len(done)} credentials anew, in {len(vaults)} vaults")
    if failures:
        text = f"{len(failures)} credentials are not sealed with the first key; keep the old keys, and repeat this"
        raise SecretError(text, fault="unreadable")


async def _every(runtime: AgentRuntime) -> AsyncGenerator[Vault, None]:
    """All vaults of the workspace that hold secrets."""
    page: str | None = None
    while True:
        found = await runtime.list_vaults(limit=100, page=page)
        for each in found.data:
            yield each
        if (page := found.next_page) is None:
            return


@command(app, "delete")
async def delete(
    cli: Cli, vault: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove a vault with its credentials."""
    confirm(f"Delete vault {vault}?", yes=yes)
    async with cli.runtime() as runtime:
        await runtime.delete_vault(vault)
    cli.out.result({"id": vault, "action": "deleted"}, f"deleted {vault}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone.

    Raises:
        InvalidRequestError: Nobody is there to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequestError("this cannot be undone; repeat it with --yes")
    typer.confirm(question, abort=True, err=True)


def pairs(given: list[str] | None) -> dict[str, str]:
    """Metadata from the command line.

    Raises:
        InvalidRequestError: One is no pair.
    """
    found: dict[str, str] = {}
    for each in given or ():
        key, equals, value = each.partition("=")
        if not equals:
            raise InvalidRequestError(f"--metadata {each!r}: write it as KEY=VALUE")
        found[key] = value
    return found


def _show(cli: Cli, vault: Vault) -> None:
    cli.out.fields(
        {
            "id": vault.id,
            "name": vault.display_name,
            "metadata": vault.metadata,
            "created": vault.created_at,
            "updated": vault.updated_at,
            "archived": vault.archived_at,
        }
    )
