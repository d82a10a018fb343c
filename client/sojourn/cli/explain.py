"""`sojourn sessions explain`: why a session is in its state, and what it waits for."""

import typer
from rich.text import Text

from sojourn.cli.command import Cli, command
from sojourn.cli.render import printable
from sojourn.cli.session import Id


def register(app: typer.Typer) -> None:
    """Add the command to ``sojourn sessions``."""
    command(app, "explain")(explain)


async def explain(cli: Cli, session: Id) -> None:
    """Say why a session is in its state, what it waits for, and what to do about it. Needs no worker."""
    async with cli.runtime() as runtime:
        found = await runtime.explain(session)
    cli.out.result(found, f"{found.id} is {found.status.value}")
    if not cli.out.as_json:
        for reason in found.reasons:
            cli.out.line(f"- {reason.text}")
            if reason.action:
                cli.out.line(Text.assemble(("  → ", "bold"), printable(reason.action)))
