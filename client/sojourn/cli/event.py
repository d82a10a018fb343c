"""`sojourn sessions events` and `pending`: what a session says, and what it waits for."""

from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.render import call_text, snippet
from sojourn.cli.session import Id
from sojourn.types import AgentCustomToolUse, AgentMcpToolUse, AgentToolUse, EventId, InvalidRequestError


def register(app: typer.Typer) -> None:
    """Add the commands to ``sojourn sessions``."""
    command(app, "events")(events)
    command(app, "pending")(pending)


async def events(
    cli: Cli,
    session: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until it ends.")] = False,
    from_seq: Annotated[int, typer.Option(min=0, help="Number of the last event that is not wanted.")] = 0,
    previews: Annotated[bool, typer.Option("--previews", help="Text while it is written; with --follow.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All events, whole, with their ids.")] = False,
) -> None:
    """Print the events of a session, one on a line. Needs no worker."""
    if previews and not follow:
        raise InvalidRequestError("--previews shows what is being written; add --follow")
    async with cli.runtime() as runtime:
        if not follow:
            for event in await runtime.list_events(session, from_seq=from_seq):
                cli.out.event(event, verbose=verbose)
            return
        async with runtime.follow(session, from_seq=from_seq, previews=previews) as stream:
            async for each in stream:
                cli.out.event(each, verbose=verbose)


async def pending(cli: Cli, session: Id) -> None:
    """List the tool calls that wait for you, with what they would do. Needs no worker."""
    async with cli.runtime() as runtime:
        actions = await runtime.pending_actions(session)
        wanted = {action.id for action in actions}
        log = await runtime.list_events(session) if wanted else []
    calls: dict[EventId, AgentToolUse | AgentCustomToolUse | AgentMcpToolUse] = {
        event.id: event
        for event in log
        if isinstance(event, AgentToolUse | AgentCustomToolUse | AgentMcpToolUse) and event.id in wanted
    }
    if cli.out.as_json:
        data = [{**action.model_dump(), "input": calls[action.id].input} for action in actions]
        cli.out.json_line({"data": data, "next_page": None})
        return
    rows = [(each.id, each.kind, snippet(call_text(each.name, calls[each.id].input))) for each in actions]
    cli.out.table(("id", "waits for", "call"), rows)
