"""The program `sojourn`."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code (`sojourn.cli.failure.ExitCode`)."""
    try:
        from sojourn.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        print('error: the command line is not installed; run pip install "sojourn[cli]"', file=sys.stderr)
        sys.exit(2)
    sys.exit(run())
