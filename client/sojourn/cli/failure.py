"""What the process ends with, and how an error is told."""

import json
import sys
import traceback
from enum import IntEnum

from rich.console import Console
from rich.text import Text
from temporalio.service import RPCError

from sojourn.client.failure import from_status
from sojourn.types import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    ServerNotReadyError,
    ServerUnavailableError,
    SojournError,
    StoreMissingError,
    StoreUnavailableError,
    ToolTimeoutError,
    WorkerUnavailableError,
)


class ExitCode(IntEnum):
    """The exit codes of every command. The one place that says what they mean."""

    OK = 0
    INTERNAL = 1
    """Something broke that is not the caller's doing."""
    USAGE = 2
    """The command line or what it names is wrong in itself; repeating it does not help."""
    NOT_FOUND = 3
    CONFLICT = 4
    """Right request, wrong state: the session has ended, waits for an answer, was interrupted …"""
    UNAVAILABLE = 5
    """No server, a server that is not set up, or no worker; later or elsewhere the same command works."""
    FAILED = 6
    """The model's provider failed or refused, or a tool or a wait ran out of time."""
    BROKEN_PIPE = 141
    """The reader of the output went away, as in ``sojourn sessions events ID | head``."""
    INTERRUPTED = 130
    """Ctrl-C."""


EXIT_CODES: dict[type[SojournError], ExitCode] = {
    InvalidRequestError: ExitCode.USAGE,
    NotFoundError: ExitCode.NOT_FOUND,
    ConflictError: ExitCode.CONFLICT,
    ServerUnavailableError: ExitCode.UNAVAILABLE,
    ServerNotReadyError: ExitCode.UNAVAILABLE,
    StoreMissingError: ExitCode.UNAVAILABLE,
    StoreUnavailableError: ExitCode.UNAVAILABLE,
    WorkerUnavailableError: ExitCode.UNAVAILABLE,
    ProviderError: ExitCode.FAILED,
    ToolTimeoutError: ExitCode.FAILED,
    SojournError: ExitCode.INTERNAL,
}
"""The nearest class in an error's ancestry decides."""

HELP = "Exit codes: " + ", ".join(
    (
        "0 ok",
        "1 internal error",
        "2 wrong usage or request",
        "3 not found",
        "4 conflict (ended, waits for an answer, …)",
        "5 server or worker unavailable or not set up",
        "6 model, tool or wait failed",
        "130 interrupted",
    )
)

_EXTRAS = {
    "genai_prices": "worker",
    "griffe": "worker",
    "obstore": "store",
    "prompt_toolkit": "cli",
    "pydantic_ai": "worker",
    "starlette": "gateway",
    "uvicorn": "gateway",
    "yaml": "cli",
}


def exit_code(error: SojournError) -> ExitCode:
    """The exit code that an error ends the process with."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def report(error: Exception, *, as_json: bool) -> ExitCode:
    """Tell the error on standard error, in one line or as JSON; a bug of ours with its traceback.

    Returns:
        What to end the process with.
    """
    kind, message, code = _told(error)
    if kind is None:
        if not as_json:
            traceback.print_exception(error)
            return code
        kind = SojournError.kind
    if not message:
        # A group without a command has shown its help.
        return code
    if as_json:
        print(json.dumps({"error": {"type": kind, "message": message}}, ensure_ascii=False), file=sys.stderr)
    else:
        line = Text.assemble(("error: ", "bold red"), (" ".join(message.split()), "red"))
        Console(stderr=True, highlight=False).print(line, soft_wrap=True)
    return code


def _told(error: Exception) -> tuple[str | None, str, ExitCode]:
    """Kind, message and exit code; no kind means that the error is unexpected."""
    match error:
        case SojournError():
            return error.kind, str(error), exit_code(error)
        case RPCError():
            return _told(from_status(error, "the server"))
        case TimeoutError():
            return ToolTimeoutError.kind, "the wait is over and the turn is not; it goes on by itself", ExitCode.FAILED
        case ModuleNotFoundError() if (name := (error.name or "").partition(".")[0]) in _EXTRAS:
            text = f'{name!r} is not installed; run pip install "sojourn[{_EXTRAS[name]}]"'
            return InvalidRequestError.kind, text, ExitCode.USAGE
        case _ if (describe := getattr(error, "format_message", None)) is not None:
            # An error of click, which typer brings along under a private name.
            return InvalidRequestError.kind, _usage(error, describe()), ExitCode.USAGE
        case _:
            return None, f"{type(error).__name__}: {error}", ExitCode.INTERNAL


def _usage(error: Exception, message: str) -> str:
    context = getattr(error, "ctx", None) if message else None
    way_out = f"; see `{context.command_path} --help`" if context is not None else ""
    return f"{message[:1].lower()}{message[1:].rstrip('.')}{way_out}"
