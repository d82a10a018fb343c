"""`sojourn environments …`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.definition import read_file
from sojourn.types import (
    CloudConfig,
    Environment,
    EnvironmentChange,
    EnvironmentDefinition,
    InvalidRequestError,
    LimitedNetwork,
    SandboxConfig,
    parse,
)

app = typer.Typer(help="Environments: what sessions may reach, and what is installed for them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="Id of the environment.")]


@command(app, "create")
async def create(
    cli: Cli,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Definition in TOML, YAML or JSON; - is standard input.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name, instead of a file; unique in the workspace.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    self_hosted: Annotated[bool, typer.Option("--self-hosted", help="Its tools run on workers of your own.")] = False,
) -> None:
    """Store a new environment and print its id."""
    named = {"name": name, "description": description, "config": {"type": "self_hosted"} if self_hosted else None}
    options = {key: value for key, value in named.items() if value is not None}
    definition = _definition(file, options)
    async with cli.runtime() as runtime:
        made = await runtime.create_environment(definition)
    cli.out.result(made, made.id)


@command(app, "list")
async def list_(
    cli: Cli,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries on a page.")] = 20,
    page: Annotated[str | None, typer.Option(help="Cursor of the page, from the page before.")] = None,
) -> None:
    """List the workspace's environments, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_environments(include_archived=archived, limit=limit, page=page)
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = [
        (each.id, each.name, each.config.type, each.created_at, "yes" if each.archived_at else None)
        for each in found.data
    ]
    cli.out.table(("id", "name", "type", "created", "archived"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


@command(app, "show")
async def show(cli: Cli, environment: Id) -> None:
    """Show an environment."""
    async with cli.runtime() as runtime:
        found = await runtime.get_environment(environment)
    cli.out.result(found)
    if not cli.out.as_json:
        _show(cli, found)


@command(app, "update")
async def update(
    cli: Cli,
    environment: Id,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What changes, in TOML, YAML or JSON; - is standard input.")
    ],
) -> None:
    """Change an environment for the sessions to come. What the file leaves out stays."""
    change = read_file(EnvironmentChange, file)
    async with cli.runtime() as runtime:
        found = await runtime.update_environment(environment, change)
    cli.out.result(found, f"environment {found.id} is changed")


@command(app, "archive")
async def archive(cli: Cli, environment: Id) -> None:
    """Refuse new sessions in an environment. Sessions that run go on."""
    async with cli.runtime() as runtime:
        found = await runtime.archive_environment(environment)
    cli.out.result(found, f"environment {found.id} is archived")


@command(app, "delete")
async def delete(
    cli: Cli, environment: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove an environment that no session refers to."""
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidRequestError("deleting cannot be undone; repeat it with --yes")
        typer.confirm(f"Delete environment {environment}?", abort=True, err=True)
    async with cli.runtime() as runtime:
        await runtime.delete_environment(environment)
    cli.out.result({"id": environment, "action": "deleted"}, f"deleted {environment}")


def _definition(file: Path | None, options: Mapping[str, object]) -> EnvironmentDefinition:
    if file is None:
        if "name" not in options:
            raise InvalidRequestError("a new environment needs a file, or --name")
        return parse(EnvironmentDefinition, options)
    if options:
        raise InvalidRequestError(f"{', '.join(options)} given beside a file; put everything into the file")
    return read_file(EnvironmentDefinition, file)


def _show(cli: Cli, environment: Environment) -> None:
    cli.out.fields(
        {
            "id": environment.id,
            "name": environment.name,
            "description": environment.description,
            "type": environment.config.type,
            "network": _network(environment.config),
            "packages": _packages(environment.config),
            "metadata": environment.metadata,
            "created": environment.created_at,
            "updated": environment.updated_at,
            "archived": environment.archived_at,
        }
    )


def _network(config: SandboxConfig) -> str | None:
    if not isinstance(config, CloudConfig):
        return None
    if not isinstance(config.networking, LimitedNetwork):
        return config.networking.type
    also = {"MCP servers": config.networking.allow_mcp_servers, "registries": config.networking.allow_package_managers}
    return "limited to " + ", ".join((*config.networking.allowed_hosts, *(name for name, yes in also.items() if yes)))


def _packages(config: SandboxConfig) -> dict[str, str]:
    if not isinstance(config, CloudConfig):
        return {}
    listed = config.packages.model_dump(exclude={"type"})
    return {manager: ",".join(names) for manager, names in listed.items() if names}
