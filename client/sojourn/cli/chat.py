"""`sojourn chat`."""

from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.dialog import Dialog
from sojourn.cli.prompt import open_prompt
from sojourn.client import AgentRuntime, SessionHandle
from sojourn.types import AgentDefinition, AgentVersion, InvalidRequestError, parse
from sojourn.types.id import new_agent_id

ECHO = "scripted:echo"
"""A model that every worker has; it needs no key and repeats what it is told."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "chat")(chat)


async def chat(
    cli: Cli,
    session: Annotated[str | None, typer.Argument(metavar="[SESSION]", help="Session to go on with.")] = None,
    agent: Annotated[str | None, typer.Option(help="Start a session of this agent.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Start a session with this model, as provider:name.", envvar="SOJOURN_MODEL")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt, with --model.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option(help="Name of a tool on the worker, with --model; repeat for more.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the new session.")] = None,
) -> None:
    """Talk to an agent: in a terminal, or line by line through a pipe.

    Ctrl-C ends the turn in progress, Ctrl-D leaves; the session goes on either way. Tool calls that need your approval
    are asked for: y, n, always (this very call), or the reason to deny. Through a pipe, the next line is the answer.
    """
    _check(session, agent=agent, model_options=bool(system or tool), new_options=bool(title))
    async with cli.runtime() as runtime:
        if session is not None:
            handle = runtime.session(session)
            await handle.status()
        else:
            chosen = agent or _ad_hoc(cli, model, system, tool or [])
            handle = await runtime.start_session(chosen, title=title)
            cli.out.note(f"session {handle.id}")
        await _converse(cli, runtime, handle)


async def _converse(cli: Cli, runtime: AgentRuntime, session: SessionHandle) -> None:
    try:
        await Dialog(runtime, session, out=cli.out, prompt=open_prompt()).run()
    finally:
        cli.out.note(f"come back with: sojourn chat {session.id}")


def _check(session: str | None, *, agent: str | None, model_options: bool, new_options: bool) -> None:
    if session is not None and (agent or model_options or new_options):
        raise InvalidRequestError("a session has its agent already; give a session or what a new one is made of")
    if agent is not None and model_options:
        raise InvalidRequestError("--system and --tool go with --model; an agent has its own")


def _ad_hoc(cli: Cli, model: str | None, system: str | None, tools: list[str]) -> AgentVersion:
    """An agent for one session, which carries the definition itself; none is stored."""
    if model is None:
        cli.out.note(f"talking to {ECHO}, which repeats what you say; choose with --model or --agent")
    given = {"name": "chat", "model": model or ECHO, "system": system, "tools": tools}
    return AgentVersion(id=new_agent_id(), version=1, definition=parse(AgentDefinition, given))
