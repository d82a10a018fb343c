"""The tool ``bash``."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from sojourn.activities.builtin.output import NO_OUTPUT, Answer, Output, ask
from sojourn.activities.context import ToolContext
from sojourn.activities.tool import ToolFailedError, tool

LONGEST = timedelta(minutes=10)
"""The longest a command may take."""

_WAITING = timedelta(minutes=30)
"""Longer than that: calls of one step wait for one another."""


class _Ran(Answer):
    output: Output
    exit_code: int | None
    ended: Literal["exited", "timed_out", "restarted"] | None
    renewed: bool


class _Restarted(Answer):
    pass


@tool(timeout=_WAITING)
async def bash(
    context: ToolContext,
    command: str | None = None,
    restart: bool | None = None,
    timeout_ms: Annotated[int, Field(ge=0)] | None = None,
) -> str:
    """Run a command in a bash shell in the sandbox.

    The shell is persistent: working directory, variables, functions and background jobs stay from one call to the next.
    It starts in the workspace. There is no terminal, and standard input is empty, so commands must not ask questions:
    use flags such as -y, and no editors or pagers. Output and errors come back together in the order they were written,
    with the exit code if it is not 0. Of more than 100,000 characters you get the end, and the path of a file with all
    of them. A call returns when the command is done; start servers and the like in the background with &, their output
    going to a file. After 120 seconds a command is killed together with the shell; timeout_ms changes that.

    Args:
        command: The command, of any number of lines. Leave it out only with restart.
        restart: With true and no command, kills the shell with everything it has started and begins a new one.
        timeout_ms: How long the command may take, in milliseconds; 120000 by default, at most 600000.
    """
    if restart:
        await ask(context, "restart", {}, _Restarted)
        if not command:
            return "bash session restarted"
    if not command:
        raise ToolFailedError("bash: command is required")
    limit = min(timedelta(milliseconds=timeout_ms), LONGEST) if timeout_ms else timedelta(minutes=2)
    ran = await ask(context, "bash", {"command": command, "timeout_seconds": limit.total_seconds()}, _Ran)
    text = _told(ran, limit)
    if ran.exit_code != 0:
        raise ToolFailedError(text)
    return text


def _told(ran: _Ran, limit: timedelta) -> str:
    before = ["[the shell of before was ended: variables, working directory and background jobs are gone]"]
    shown = ran.output.shown()
    lines = [*(before if ran.renewed else []), *([shown.removesuffix("\n")] if shown else []), *_notes(ran, limit)]
    return "\n".join(lines) or NO_OUTPUT


def _notes(ran: _Ran, limit: timedelta) -> list[str]:
    new = "the next call starts a new one"
    match ran.ended:
        case "timed_out":
            return [
                f"[timed out after {limit.total_seconds():g} s; the shell and all it had started was killed, {new}]"
            ]
        case "restarted":
            return ["[the shell was restarted while this ran]"]
        case "exited" if ran.exit_code is not None and ran.exit_code < 0:
            return [f"[the shell was killed by signal {-ran.exit_code}; {new}]"]
        case "exited":
            return [f"[exit code {ran.exit_code}; the shell has ended with it, {new}]"]
        case None:
            return [f"[exit code {ran.exit_code}]"] if ran.exit_code else []
