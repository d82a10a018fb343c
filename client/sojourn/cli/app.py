"""The tree of commands."""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from sojourn.cli import (
    agent,
    chat,
    cluster,
    credential,
    deployment,
    environment,
    event,
    explain,
    file,
    gateway,
    key,
    schedule,
    session,
    up,
    vault,
    worker,
)
from sojourn.cli.failure import HELP, ExitCode, report

app = typer.Typer(
    name="sojourn",
    help="Durable AI-agent sessions on Temporal.",
    epilog=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for register in (up.register, worker.register, gateway.register, chat.register):
    register(app)
event.register(session.app)
explain.register(session.app)
app.add_typer(agent.app, name="agents")
app.add_typer(environment.app, name="environments")
app.add_typer(file.app, name="files")
app.add_typer(session.app, name="sessions")
app.add_typer(vault.app, name="vaults")
app.add_typer(credential.app, name="credentials")
app.add_typer(key.app, name="keys")
app.add_typer(deployment.app, name="deployments")
app.add_typer(schedule.app, name="schedules")
cluster.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"sojourn {version('sojourn')}")
        except PackageNotFoundError:
            print("sojourn (from source)")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


# Its own options are parsed by the demo itself, which is imported only when it is wanted.
@app.command(
    "demo",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def _demo(context: typer.Context) -> None:
    """Show what sojourn does, from start to end: no account, no key, no server needed."""
    from sojourn.cli.demo import demo

    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(demo)
    program(context.args, prog_name=context.command_path, standalone_mode=False)


def run() -> int:
    """Run the command of the process's arguments.

    Returns:
        The exit code.
    """
    try:
        ended = app(prog_name="sojourn", standalone_mode=False)
    except (EOFError, KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        return report(error, as_json="--json" in sys.argv)
    return ended if isinstance(ended, int) else ExitCode.OK
