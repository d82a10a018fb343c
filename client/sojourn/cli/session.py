"""`sojourn sessions …`: starting, sending, answering, control and lists."""

import sys
from datetime import timedelta
from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.render import cost_text, usage_text
from sojourn.types import Budget, InvalidRequestError, Metadata, SessionStatus, UpdateSessionInput, UserMessage, parse

app = typer.Typer(help="Sessions: start them, talk to them, watch them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")]
Call = Annotated[str, typer.Argument(metavar="TOOL_USE", help="Event id of the tool call; `pending` lists them.")]


@command(app, "start")
async def start(
    cli: Cli,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent.")],
    message: Annotated[str | None, typer.Option(help="First message, sent in the same call.")] = None,
    title: Annotated[str | None, typer.Option(help="For people.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeat for more pairs.")] = None,
    session_id: Annotated[
        str | None, typer.Option(help="An id of your own, to start at most one session for something.")
    ] = None,
    agent_version: Annotated[int | None, typer.Option(min=1, help="Version of the agent; latest by default.")] = None,
    budget: Annotated[int | None, typer.Option(min=1, metavar="CENTS", help="What it may cost at list price.")] = None,
    vault: Annotated[
        list[str] | None, typer.Option(metavar="VAULT", help="Where its credentials are; the first counts first.")
    ] = None,
) -> None:
    """Start a session and print its id."""
    pairs: dict[str, str] = parse(Metadata, dict(map(_pair, metadata or ())))
    async with cli.runtime() as runtime:
        pinned = await runtime.get_agent(agent, version=agent_version) if agent_version is not None else agent
        session = await runtime.start_session(
            pinned,
            title=title,
            metadata=pairs,
            session_id=session_id,
            initial_events=[UserMessage.text(message)] if message is not None else [],
            budget=Budget(max_list_cost_cents=budget) if budget is not None else None,
            vault_ids=vault or (),
        )
        info = await session.info()
    cli.out.result(info, info.id)
    cli.out.note(f"watch it with: sojourn sessions events {info.id} --follow; join it with: sojourn chat {info.id}")


@command(app, "send")
async def send(
    cli: Cli,
    session: Id,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message; - is standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the turn and print what the agent says.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Longest wait.")] = None,
) -> None:
    """Send a message. It is stored when this returns; with --wait the turn is over, too."""
    text = sys.stdin.read() if text == "-" else text
    async with cli.runtime() as runtime:
        if wait:
            limit = timedelta(seconds=timeout) if timeout is not None else None
            said = await runtime.send_and_wait(session, text, timeout=limit)
            cli.out.result(said, said.text)
        else:
            (sent,) = await runtime.send_event(session, UserMessage.text(text))
            cli.out.result(sent, sent.id)


@command(app, "status")
async def status(cli: Cli, session: Id) -> None:
    """Print the status of a session."""
    async with cli.runtime() as runtime:
        found = await runtime.status(session)
    cli.out.result({"id": session, "status": found}, found.value)


@command(app, "show")
async def show(cli: Cli, session: Id) -> None:
    """Show a session."""
    async with cli.runtime() as runtime:
        info = await runtime.get_session(session)
    cli.out.result(info)
    if not cli.out.as_json:
        cli.out.fields(
            {
                "id": info.id,
                "title": info.title,
                "agent": info.agent_id,
                "version": info.agent_version,
                "environment": info.environment_id,
                "deployment": info.deployment_id,
                "status": info.status.value,
                "stop reason": info.stop_reason,
                "owner": f"{info.owner.workspace}/{info.owner.user}",
                "metadata": info.metadata,
                "usage": usage_text(info.account.usage),
                "cost": cost_text(info.account.cost_microcents, info.account.budget),
                "created": info.created_at,
                "closed": info.closed_at,
            }
        )


@command(app, "confirm")
async def confirm(cli: Cli, session: Id, tool_use: Call) -> None:
    """Allow a tool call that asks for permission."""
    async with cli.runtime() as runtime:
        await runtime.session(session).confirm(tool_use, allow=True)
    _done(cli, session, "confirmed", tool_use)


@command(app, "deny")
async def deny(
    cli: Cli,
    session: Id,
    tool_use: Call,
    reason: Annotated[str | None, typer.Option(help="Tells the model why.")] = None,
) -> None:
    """Deny a tool call that asks for permission."""
    async with cli.runtime() as runtime:
        await runtime.session(session).confirm(tool_use, allow=False, message=reason)
    _done(cli, session, "denied", tool_use)


@command(app, "answer")
async def answer(
    cli: Cli,
    session: Id,
    tool_use: Call,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The result; - is standard input.")],
    error: Annotated[bool, typer.Option("--error", help="The result is an error.")] = False,
) -> None:
    """Give the result of a custom tool."""
    text = sys.stdin.read() if text == "-" else text
    async with cli.runtime() as runtime:
        await runtime.session(session).answer(tool_use, text, is_error=error)
    _done(cli, session, "answered", tool_use)


@command(app, "interrupt")
async def interrupt(cli: Cli, session: Id) -> None:
    """End the turn in progress. The session lives on."""
    async with cli.runtime() as runtime:
        await runtime.interrupt(session)
    _done(cli, session, "interrupted")


@command(app, "pause")
async def pause(cli: Cli, session: Id) -> None:
    """Hold a session before its next step."""
    async with cli.runtime() as runtime:
        await runtime.pause(session)
    _done(cli, session, "paused")


@command(app, "resume")
async def resume(cli: Cli, session: Id) -> None:
    """Let a paused session go on."""
    async with cli.runtime() as runtime:
        await runtime.resume(session)
    _done(cli, session, "resumed")


@command(app, "budget")
async def budget(
    cli: Cli,
    session: Id,
    cents: Annotated[int | None, typer.Argument(min=1, metavar="CENTS", help="What it may cost at list price.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the limit away, for good.")] = False,
) -> None:
    """Raise or remove the budget of a session. One that has used it up goes on by itself."""
    if (cents is None) is not remove:
        raise InvalidRequestError("say how many cents, or --remove", param="budget")
    change = UpdateSessionInput(
        budget=Budget(max_list_cost_cents=cents) if cents is not None else None, remove_budget=remove
    )
    async with cli.runtime() as runtime:
        await runtime.update_session(session, change)
    _done(cli, session, "removed the budget of" if remove else f"budget is {cents} cents:")


@command(app, "archive")
async def archive(cli: Cli, session: Id) -> None:
    """End a session for good. Its log stays readable."""
    async with cli.runtime() as runtime:
        await runtime.archive(session)
    _done(cli, session, "archived")


@command(app, "export")
async def export(cli: Cli, session: Id) -> None:
    """Write the log of a session to the archive now. Sessions do that by themselves, unless ended from outside."""
    async with cli.runtime() as runtime:
        found = await runtime.export_session(session)
    told = (
        f"exported {session}: {found.runs} run(s), {found.size_bytes:,} bytes"
        if found.runs
        else f"{session}: nothing new"
    )
    cli.out.result({"id": session, "action": "exported", "runs": found.runs, "size_bytes": found.size_bytes}, told)


@command(app, "delete")
async def delete(
    cli: Cli, session: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove a session and everything stored about it."""
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidRequestError("deleting cannot be undone; repeat it with --yes")
        typer.confirm(f"Delete session {session} and its log?", abort=True, err=True)
    async with cli.runtime() as runtime:
        await runtime.delete_session(session)
    _done(cli, session, "deleted")


@command(app, "list")
async def list_(
    cli: Cli,
    agent: Annotated[str | None, typer.Option(help="Only those of this agent.")] = None,
    status: Annotated[list[SessionStatus] | None, typer.Option(help="Only with this status; repeat for more.")] = None,
    stop_reason: Annotated[str | None, typer.Option(help="Only with this one, such as requires_action.")] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="Those of all users of the workspace.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries on a page.")] = 20,
    page: Annotated[str | None, typer.Option(help="Cursor of the page, from the page before.")] = None,
) -> None:
    """List sessions, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_sessions(
            agent=agent,
            statuses=status or (),
            stop_reason=stop_reason,
            every_user=all_users,
            limit=limit,
            page=page,
        )
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = [
        (each.id, each.status.value, each.stop_reason, each.agent_id, each.owner.user, each.created_at, each.title)
        for each in found.data
    ]
    cli.out.table(("id", "status", "stop reason", "agent", "user", "created", "title"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequestError(f"metadata {text!r} is no pair; write it as key=value", param="metadata")
    return key, value


def _done(cli: Cli, session: str, action: str, tool_use: str | None = None) -> None:
    told = {"id": session, "action": action} | ({"tool_use_id": tool_use} if tool_use else {})
    cli.out.result(told, f"{action} {tool_use or session}")
