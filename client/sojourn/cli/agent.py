"""`sojourn agents …`."""

from pathlib import Path
from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.definition import read_definition
from sojourn.types import AgentDefinition, AgentVersion, InvalidRequestError, parse

app = typer.Typer(help="Agents: versioned definitions that sessions run.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Definition in TOML, YAML or JSON; - is standard input.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Entries on a page.")]
PageCursor = Annotated[str | None, typer.Option("--page", help="Cursor of the page, from the page before.")]


@command(app, "create")
async def create(
    cli: Cli,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Definition in TOML, YAML or JSON; - is standard input.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name, instead of a file.")] = None,
    model: Annotated[str | None, typer.Option(help="Model as provider:name.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    tool: Annotated[list[str] | None, typer.Option(help="Name of a tool on the worker; repeat for more.")] = None,
) -> None:
    """Store a new agent and print its id."""
    options = {"name": name, "model": model, "system": system, "description": description, "tools": tool}
    definition = _definition(file, {key: value for key, value in options.items() if value})
    async with cli.runtime() as runtime:
        agent = await (await runtime.create(definition)).get()
    cli.out.result(agent, agent.id)
    cli.out.note(f"agent {agent.name!r}, version 1; talk to it with: sojourn chat --agent {agent.id}")


@command(app, "list")
async def list_(
    cli: Cli,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Limit = 20,
    page: PageCursor = None,
) -> None:
    """List the workspace's agents, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_agents(include_archived=archived, limit=limit, page=page)
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = [
        (each.id, each.name, each.version, each.created_at, "yes" if each.archived else None) for each in found.data
    ]
    cli.out.table(("id", "name", "version", "created", "archived"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


@command(app, "show")
async def show(
    cli: Cli, agent: Id, version: Annotated[int | None, typer.Option(min=1, help="Version; latest by default.")] = None
) -> None:
    """Show one version of an agent, the latest by default."""
    async with cli.runtime() as runtime:
        found = await runtime.get_agent(agent, version=version)
    cli.out.result(found)
    if not cli.out.as_json:
        _show(cli, found)


@command(app, "versions")
async def versions(cli: Cli, agent: Id) -> None:
    """List the versions of an agent, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.agent_versions(agent)
    if cli.out.as_json:
        cli.out.json_line({"data": found, "next_page": None})
        return
    rows = [(each.version, each.definition.model, each.created_at, each.name) for each in found]
    cli.out.table(("version", "model", "created", "name"), rows)


@command(app, "update")
async def update(
    cli: Cli,
    agent: Id,
    file: File,
    version: Annotated[
        int | None, typer.Option(min=1, help="The version you have read; refused if there is a newer one.")
    ] = None,
) -> None:
    """Store a new version. Sessions that run keep theirs."""
    definition = read_definition(file)
    async with cli.runtime() as runtime:
        found = await runtime.update_agent(agent, definition, version=version)
    cli.out.result(found, f"agent {found.id} is at version {found.version}")


@command(app, "archive")
async def archive(cli: Cli, agent: Id) -> None:
    """Refuse new sessions and versions of an agent. Sessions that run go on."""
    async with cli.runtime() as runtime:
        await runtime.archive_agent(agent)
    cli.out.result({"id": agent, "archived": True}, f"agent {agent} is archived")


def _definition(file: Path | None, options: dict[str, object]) -> AgentDefinition:
    if file is not None:
        if options:
            given = ", ".join(options)
            raise InvalidRequestError(f"{given} given beside a file; put everything into the file")
        return read_definition(file)
    if "name" not in options or "model" not in options:
        raise InvalidRequestError("a new agent needs a file, or --name and --model")
    return parse(AgentDefinition, options)


def _show(cli: Cli, agent: AgentVersion) -> None:
    definition = agent.definition
    names = [getattr(tool, "name", tool.type) for tool in definition.tools]
    policy = definition.permission_policy
    cli.out.fields(
        {
            "id": agent.id,
            "name": agent.name,
            "version": agent.version,
            "model": definition.model,
            "description": definition.description,
            "tools": ", ".join(names),
            "permissions": {**({"default": policy.default} if policy.default else {}), **policy.tools},
            "metadata": definition.metadata,
            "created": agent.created_at,
            "archived": agent.archived_at,
            "system": definition.system,
        }
    )
