"""The program `sojourn`."""

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ["leave", "main"]


def main() -> None:
    """Run the command line and end the process with its exit code (`sojourn.cli.failure.ExitCode`)."""
    try:
        from sojourn.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        print('error: the command line is not installed; run pip install "sojourn[cli]"', file=sys.stderr)
        sys.exit(2)
    leave(run())


def leave(code: int) -> NoReturn:
    """End the process at once with what was printed, and with no other end than this."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Its reader may have gone away.
        with suppress(OSError):
            stream.flush()
    # Without Python's own teardown, which aborts (exit code -6 or -11) while threads of the SDK still end their calls:
    # after a worker, and after a connection that was given up. A supervisor would count a crash.
    os._exit(code)
