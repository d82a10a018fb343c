"""`sojourn demo`: one session through everything that can happen to it, and a check that nothing was lost."""

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from sojourn.cli.demo_check import Evidence
    from sojourn.cli.demo_process import DemoProcess
    from sojourn.cli.demo_screen import Screen
    from sojourn.cli.demo_stage import Stage


def demo(
    model: Annotated[
        str | None, typer.Option("--model", help="A real model, as provider:name, in place of the script.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the session's data in this folder.", file_okay=False)
    ] = None,
) -> None:
    """Show one session survive a killed worker, an interrupt and a pause, then check its log. Needs no key."""
    from sojourn.cli.demo_screen import Screen

    with tempfile.TemporaryDirectory(prefix="sojourn-demo-", ignore_cleanup_errors=True) as folder:
        good = asyncio.run(_until_signal(play(Screen(), model=model, folder=keep or Path(folder), kept=keep)))
    raise typer.Exit(0 if good else 1)
