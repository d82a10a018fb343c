"""`sojourn setup` and `sojourn doctor`: making a Temporal namespace ready, and looking whether everything is."""

import typer
from rich.text import Text

from sojourn.cli.check import State, examine
from sojourn.cli.command import Cli, command
from sojourn.cli.failure import ExitCode
from sojourn.client import name_store, register_search_attributes
from sojourn.types import Store
from sojourn.types.name import SEARCH_ATTRIBUTES

_MARKS = {
    State.OK: ("ok      ", "green"),
    State.MISSING: ("missing ", "bold red"),
    State.OPTIONAL: ("optional", "yellow"),
    State.FAILING: ("failing ", "bold red"),
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "setup")(setup)
    command(app, "doctor")(doctor)


async def setup(cli: Cli) -> None:
    """Register on a namespace what sojourn needs there. Repeating it changes nothing.

    With --store, note there where the object store is, so that clients and workers find it by themselves.
    """
    async with cli.runtime() as runtime:
        registered = await register_search_attributes(runtime.client)
        namespace = runtime.client.namespace
        if cli.connection.store:
            await name_store(runtime.client, Store.open(cli.connection.store).url)
    names = [key.name for key in SEARCH_ATTRIBUTES]
    told = {"namespace": namespace, "registered": registered, "present": [n for n in names if n not in registered]}
    if cli.connection.store:
        told["store"] = cli.connection.store
    if registered:
        cli.out.result(told, f"registered search attributes {', '.join(registered)} in namespace {namespace!r}")
    else:
        cli.out.result(told, f"namespace {namespace!r} has everything already; nothing was changed")


async def doctor(cli: Cli) -> int:
    """Check everything that sojourn needs, and say how to mend what is missing.

    Ends with 0 only if nothing essential is missing and nothing fails.
    """
    checks = [check async for check in examine(cli.connection)]
    fine = not any(check.state in (State.MISSING, State.FAILING) for check in checks)
    cli.out.result({"ok": fine, "checks": checks})
    if not cli.out.as_json:
        width = max(len(check.name) for check in checks)
        for check in checks:
            fix = (f"; {check.fix}", "dim") if check.fix else ("", "")
            cli.out.line(Text.assemble(_MARKS[check.state], f"  {check.name:<{width}}  {check.detail}", fix))
    return ExitCode.OK if fine else ExitCode.UNAVAILABLE
