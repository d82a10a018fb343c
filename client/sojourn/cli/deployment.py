"""`sojourn deployments`: versions of the workers."""

from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.client.deployment import list_deployments, move_sessions, set_current_version

app = typer.Typer(help="Versions of the workers: `sojourn worker --deployment NAME`.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the deployment.")]


@command(app, "list")
async def show(cli: Cli, name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None) -> None:
    """List versions, with the open sessions on each. Workers of a drained version can be stopped."""
    async with cli.runtime() as runtime:
        versions = await list_deployments(runtime.client, name)
    if cli.out.as_json:
        cli.out.json_line({"data": versions})
        return
    rows = ((each.deployment, each.build_id, each.status, each.sessions, each.created_at) for each in versions)
    cli.out.table(("deployment", "build id", "status", "sessions", "created"), rows)


@command(app, "set-current")
async def set_current(
    cli: Cli,
    name: Name,
    build_id: Annotated[str, typer.Argument(metavar="BUILD_ID", help="Of the version, as its workers say it.")],
    move: Annotated[bool, typer.Option("--move", help="Wake the sessions that have nothing to do, too.")] = False,
) -> None:
    """Send new sessions to a version, and others as soon as they have something to do. Also the way back."""
    async with cli.runtime() as runtime:
        await set_current_version(runtime.client, name, build_id)
        moved = await move_sessions(runtime.client, name) if move else 0
    told = f"; {moved} sessions woken" if move else ""
    cli.out.result(
        {"deployment": name, "build_id": build_id, "woken": moved}, f"{build_id!r} is current in {name!r}{told}"
    )


@command(app, "move")
async def move(cli: Cli, name: Name) -> None:
    """Wake the sessions that wait on other versions, so that they move to the current one and the others drain."""
    async with cli.runtime() as runtime:
        moved = await move_sessions(runtime.client, name)
    cli.out.result({"deployment": name, "woken": moved}, f"{moved} sessions woken")
