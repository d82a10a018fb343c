"""`sojourn demo coding`: a coding agent repairs a program, with every built-in tool, and the repair is checked."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sojourn.cli.demo import until_signal
from sojourn.cli.folder import claim
from sojourn.types import ModelRef


def coding(
    model: Annotated[
        str | None, typer.Option("--model", help="A real model, as provider:name, in place of the script.")
    ] = None,
    sandbox: Annotated[str, typer.Option("--sandbox", metavar="KIND", help="bubblewrap or docker.")] = "bubblewrap",
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the session in this folder.", file_okay=False)
    ] = None,
) -> None:
    """Let an agent repair a program in a sandbox, kill its worker meanwhile, and check the repair. Needs no key."""
    # Here, because only this command needs a worker's dependencies.
    from sojourn.cli.coding_play import play

    if model is not None:
        ModelRef.of(model)
    with tempfile.TemporaryDirectory(prefix="sojourn-demo-", ignore_cleanup_errors=True) as temporary:
        folder = keep or Path(temporary)
        with claim(folder):
            code = asyncio.run(
                until_signal(play(folder.absolute(), model=model, sandbox=sandbox, keep=keep is not None))
            )
    # Not typer's Exit: the command also runs inside another one, which would lose the code.
    sys.exit(code)
