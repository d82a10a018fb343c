"""`sojourn credentials …`. Secrets come from standard input, a file or the environment, never from the command line.

Whoever may list the processes of a machine sees their command lines, and shells keep them.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel

from sojourn.cli.command import Cli, command
from sojourn.cli.definition import read_file
from sojourn.cli.vault import Id, confirm
from sojourn.types import (
    Credential,
    CredentialChange,
    CredentialDefinition,
    EnvironmentVariable,
    InvalidRequestError,
    McpOAuth,
    parse,
)

M = TypeVar("M", bound=BaseModel)

app = typer.Typer(help="Credentials in vaults: tokens for MCP servers, and secret variables.", no_args_is_help=True)

CredentialId = Annotated[str, typer.Argument(metavar="CREDENTIAL", help="Id of the credential.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
SecretFrom = Annotated[
    str | None,
    typer.Option("--secret-env", metavar="NAME", help="The secret is in this variable; else in standard input."),
]


@command(app, "create")
async def create(
    cli: Cli,
    vault: Id,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Definition in TOML, YAML or JSON; - is standard input."),
    ] = None,
    bearer: Annotated[
        str | None, typer.Option(metavar="URL", help="A token for this MCP server, instead of a file.")
    ] = None,
    variable: Annotated[
        str | None, typer.Option(metavar="NAME", help="A variable of sandboxes, instead of a file.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="The variable's secret goes to this host alone; repeat for more."),
    ] = None,
    secret_env: SecretFrom = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Seal a credential in a vault and print its id. A file holds the definition with its secrets."""
    if sum(each is not None for each in (file, bearer, variable)) != 1:
        raise InvalidRequestError("name a file, or --bearer URL, or --variable NAME")
    if file is not None:
        if name or host or secret_env:
            raise InvalidRequestError("options given beside a file; put everything into the file")
        definition = _from_file(CredentialDefinition, file)
    else:
        auth = _bearer(bearer, host) if bearer is not None else _variable(str(variable), host)
        auth[_SECRETS[str(auth["type"])]] = _secret(secret_env)
        definition = parse(CredentialDefinition, {"display_name": name, "auth": auth})
    async with cli.runtime() as runtime:
        made = await runtime.create_credential(vault, definition)
    cli.out.result(made, made.id)


@command(app, "list")
async def list_(
    cli: Cli,
    vault: Id,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries on a page.")] = 20,
    page: Annotated[str | None, typer.Option(help="Cursor of the page, from the page before.")] = None,
) -> None:
    """List the credentials of a vault, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_credentials(vault, include_archived=archived, limit=limit, page=page)
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = [
        (
            each.id,
            each.auth.type,
            each.auth.key,
            each.display_name,
            each.created_at,
            "yes" if each.archived_at else None,
        )
        for each in found.data
    ]
    cli.out.table(("id", "type", "for", "name", "created", "archived"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


@command(app, "show")
async def show(cli: Cli, vault: Id, credential: CredentialId) -> None:
    """Show a credential, without its secrets."""
    async with cli.runtime() as runtime:
        found = await runtime.get_credential(vault, credential)
    cli.out.result(found)
    if not cli.out.as_json:
        _show(cli, found)


@command(app, "update")
async def update(
    cli: Cli,
    vault: Id,
    credential: CredentialId,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="What changes, in TOML, YAML or JSON; - is standard input."),
    ] = None,
    secret_env: SecretFrom = None,
) -> None:
    """Change a credential. Without a file its token or value is replaced by the one in standard input."""
    async with cli.runtime() as runtime:
        if file is not None:
            change = _from_file(CredentialChange, file)
        else:
            kind = (await runtime.get_credential(vault, credential)).auth.type
            change = parse(CredentialChange, {"auth": {"type": kind, _SECRETS[kind]: _secret(secret_env)}})
        found = await runtime.update_credential(vault, credential, change)
    cli.out.result(found, f"credential {found.id} is changed")


@command(app, "validate")
async def validate(cli: Cli, vault: Id, credential: CredentialId) -> None:
    """Try an OAuth credential on its server, from a worker; a token that is refused is renewed first."""
    async with cli.runtime() as runtime:
        found = await runtime.validate_credential(vault, credential)
    refresh, probe = found.refresh, found.mcp_probe
    cli.out.result(found, f"credential {found.credential_id} is {found.status}")
    if refresh is not None:
        cli.out.note(f"renewing the token: {refresh.status}{f', {refresh.reason}' if refresh.reason else ''}")
    if probe is not None:
        answer = f"it answered {probe.http_response.status_code}" if probe.http_response else "it did not answer"
        cli.out.note(f"the server: {answer} to {probe.method}")


@command(app, "archive")
async def archive(cli: Cli, vault: Id, credential: CredentialId, yes: Yes = False) -> None:
    """Drop the secrets of a credential. Another one may then be for the same."""
    confirm(f"Archive credential {credential} and drop its secrets?", yes=yes)
    async with cli.runtime() as runtime:
        found = await runtime.archive_credential(vault, credential)
    cli.out.result(found, f"credential {found.id} is archived")


@command(app, "delete")
async def delete(cli: Cli, vault: Id, credential: CredentialId, yes: Yes = False) -> None:
    """Remove a credential."""
    confirm(f"Delete credential {credential}?", yes=yes)
    async with cli.runtime() as runtime:
        await runtime.delete_credential(vault, credential)
    cli.out.result({"id": credential, "action": "deleted"}, f"deleted {credential}")


_SECRETS = {"mcp_oauth": "access_token", "static_bearer": "token", "environment_variable": "secret_value"}
"""The one secret that each type has at least."""


def _from_file(kind: type[M], file: Path) -> M:
    try:
        return read_file(kind, file)
    except InvalidRequestError as error:
        if error.param is not None:
            raise
        # What a parser says shows the line that it does not understand.
        raise InvalidRequestError(f"{file}: cannot be read, or is no valid TOML, YAML or JSON") from None


def _bearer(url: str, hosts: list[str] | None) -> dict[str, object]:
    if hosts:
        raise InvalidRequestError("--host goes with --variable")
    return {"type": "static_bearer", "mcp_server_url": url}


def _variable(name: str, hosts: list[str] | None) -> dict[str, object]:
    networking = {"type": "limited", "allowed_hosts": hosts} if hosts else {"type": "unrestricted"}
    return {"type": "environment_variable", "secret_name": name, "networking": networking}


def _secret(variable: str | None) -> str:
    if variable is not None:
        if variable not in os.environ:
            raise InvalidRequestError(f"variable {variable!r} is not set; name the one that holds the secret")
        return os.environ[variable]
    if sys.stdin.isatty():
        return str(typer.prompt("Secret", hide_input=True, err=True))
    # The line break that ends it is the terminal's, or the file's.
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")


def _show(cli: Cli, credential: Credential) -> None:
    auth = credential.auth
    shown: dict[str, object] = {
        "id": credential.id,
        "vault": credential.vault_id,
        "name": credential.display_name,
        "type": auth.type,
        "for": auth.key,
    }
    if isinstance(auth, McpOAuth):
        shown |= {"expires": auth.expires_at, "renewed at": auth.refresh and auth.refresh.token_endpoint}
    if isinstance(auth, EnvironmentVariable):
        places = auth.injection_location
        hosts = auth.networking.allowed_hosts if auth.networking.type == "limited" else ("wherever the session may go",)
        shown |= {
            "goes to": ", ".join(hosts),
            "goes into": ", ".join(name for name, yes in (("header", places.header), ("body", places.body)) if yes),
        }
    shown |= {
        "metadata": credential.metadata,
        "created": credential.created_at,
        "updated": credential.updated_at,
        "archived": credential.archived_at,
    }
    cli.out.fields(shown)
