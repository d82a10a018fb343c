"""`sojourn schedules …`: deployments of agents, which start sessions by a schedule or on request."""

from pathlib import Path
from typing import Annotated

import typer

from sojourn.cli.agent import Limit, PageCursor
from sojourn.cli.command import Cli, command
from sojourn.cli.definition import read_file
from sojourn.types import (
    Deployment,
    DeploymentDefinition,
    DeploymentRun,
    ErrorPause,
    InvalidRequestError,
    UserMessage,
    parse,
)

app = typer.Typer(help="Agents that start sessions by a schedule or on request.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Id of the deployment, depl_….")]
File = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="TOML, YAML or JSON; - is standard input.")]


@command(app, "create")
async def create(
    cli: Cli,
    file: File = None,
    name: Annotated[str | None, typer.Option(help="Name, instead of a file.")] = None,
    agent: Annotated[str | None, typer.Option(help="Id of the agent; its latest version is kept to.")] = None,
    message: Annotated[str | None, typer.Option(help="What each session is told first.")] = None,
    environment: Annotated[str | None, typer.Option(help="Id of the environment.")] = None,
    cron: Annotated[str | None, typer.Option(help="When: five fields, such as '0 9 * * 1-5'.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Whose clocks, such as Europe/Berlin; UTC by default.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Let an agent start sessions by itself, and print the id."""
    options: dict[str, object] = {
        "name": name,
        "agent": agent,
        "initial_events": [UserMessage.text(message).model_dump()] if message else None,
        "environment_id": environment,
        "schedule": {"expression": cron, "timezone": timezone or "UTC"} if cron else None,
        "description": description,
    }
    if timezone is not None and cron is None:
        raise InvalidRequestError("--timezone says nothing without --cron; give both")
    given = {key: value for key, value in options.items() if value}
    if file is not None and given:
        raise InvalidRequestError("options given beside a file; put everything into the file")
    if file is None and not {"name", "agent", "initial_events"} <= given.keys():
        raise InvalidRequestError("a new schedule needs a file, or --name, --agent and --message")
    wanted = read_file(DeploymentDefinition, file) if file is not None else parse(DeploymentDefinition, given)
    async with cli.runtime() as runtime:
        made = await runtime.create_deployment(wanted)
    cli.out.result(made, made.id)
    cli.out.note(_told(made))


@command(app, "list")
async def list_(
    cli: Cli,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Limit = 20,
    page: PageCursor = None,
) -> None:
    """List them, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_deployments(include_archived=archived, limit=limit, page=page)
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = ((each.id, each.name, _state(each), _cron(each), _next(each)) for each in found.data)
    cli.out.table(("id", "name", "status", "schedule", "next run"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


@command(app, "show")
async def show(cli: Cli, schedule: Id) -> None:
    """Show one, with its next runs."""
    async with cli.runtime() as runtime:
        found = await runtime.get_deployment(schedule)
    cli.out.result(found)
    if cli.out.as_json:
        return
    cli.out.fields(
        {
            "id": found.id,
            "name": found.name,
            "description": found.description,
            "status": _state(found),
            "agent": f"{found.agent.id}, version {found.agent.version}",
            "environment": found.environment_id,
            "vaults": ", ".join(found.vault_ids),
            "schedule": _cron(found),
            "next runs": ", ".join(f"{at:%Y-%m-%d %H:%M}Z" for at in found.upcoming_runs_at),
            "last run": found.last_run_at,
            "metadata": found.metadata,
            "created": found.created_at,
            "archived": found.archived_at,
        }
    )


@command(app, "pause")
async def pause(cli: Cli, schedule: Id) -> None:
    """Leave out its runs until `unpause`; `run` still works."""
    async with cli.runtime() as runtime:
        found = await runtime.pause_deployment(schedule)
    cli.out.result(found, f"{found.id} is paused")


@command(app, "unpause")
async def unpause(cli: Cli, schedule: Id) -> None:
    """Let it run again, from now on."""
    async with cli.runtime() as runtime:
        found = await runtime.unpause_deployment(schedule)
    cli.out.result(found, _told(found))


@command(app, "archive")
async def archive(cli: Cli, schedule: Id) -> None:
    """End it for good. Its sessions go on."""
    async with cli.runtime() as runtime:
        found = await runtime.archive_deployment(schedule)
    cli.out.result(found, f"{found.id} is archived")


@command(app, "run")
async def run(cli: Cli, schedule: Id) -> None:
    """Run it now, and print the id of the session."""
    async with cli.runtime() as runtime:
        started = await runtime.run_deployment(schedule)
    cli.out.result(started, started.session_id or started.id)
    if started.error is not None:
        cli.out.note(f"no session: {started.error.message}")
    elif started.session_id is None:
        cli.out.note("no worker has taken the run; start one with: sojourn worker")


@command(app, "runs")
async def runs(
    cli: Cli,
    schedule: Annotated[str | None, typer.Argument(metavar="[SCHEDULE]", help="Only the runs of this one.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that started no session.")] = False,
    limit: Limit = 20,
    page: PageCursor = None,
) -> None:
    """List runs, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_deployment_runs(
            deployment=schedule, has_error=True if failed else None, limit=limit, page=page
        )
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = ((each.id, each.deployment_id, each.trigger.type, each.created_at, _outcome(each)) for each in found.data)
    cli.out.table(("id", "schedule", "trigger", "started", "session"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


def _state(found: Deployment) -> str:
    if found.archived_at is not None:
        return "archived"
    reason = found.paused_reason
    return f"paused: {reason.error.type}" if isinstance(reason, ErrorPause) else found.status


def _cron(found: Deployment) -> str | None:
    return f"{found.schedule.expression} {found.schedule.timezone}" if found.schedule else None


def _next(found: Deployment) -> object:
    return found.upcoming_runs_at[0] if found.upcoming_runs_at and found.status == "active" else None


def _told(found: Deployment) -> str:
    if found.schedule is None:
        return f"run it with: sojourn schedules run {found.id}"
    return f"{found.id} runs next at {found.upcoming_runs_at[0]:%Y-%m-%d %H:%M} UTC"


def _outcome(run: DeploymentRun) -> str:
    return run.session_id or (run.error.type if run.error else "waits for a worker")
