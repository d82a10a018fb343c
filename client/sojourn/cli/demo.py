"""`sojourn demo`: one session through everything that can happen to it, and a check that nothing was lost."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

import typer

from sojourn.cli.folder import claim
from sojourn.types import ModelRef


def demo(
    model: Annotated[
        str | None, typer.Option("--model", help="A real model, as provider:name, in place of the script.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the session in this folder.", file_okay=False)
    ] = None,
) -> None:
    """Take one session through a killed worker, an interrupt and a pause, then check its log. Needs no key."""
    # Here, because only this command needs a worker's dependencies.
    from sojourn.cli.demo_play import play

    if model is not None:
        ModelRef.of(model)
    with tempfile.TemporaryDirectory(prefix="sojourn-demo-", ignore_cleanup_errors=True) as temporary:
        folder = keep or Path(temporary)
        with claim(folder):
            code = asyncio.run(until_signal(play(folder, model=model, keep=keep is not None)))
    # Not typer's Exit: the command also runs inside another one, which would lose the code.
    sys.exit(code)


async def until_signal(work: Coroutine[None, None, bool]) -> int:
    """Run the work and clean up after it, also when the process is told to go."""
    task = asyncio.ensure_future(work)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return 0 if await task else 1
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]
