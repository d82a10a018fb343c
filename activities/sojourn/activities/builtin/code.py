"""The tool ``code_execution``."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sojourn.activities.builtin.output import Answer, Output, ask
from sojourn.activities.builtin.shell import LONGEST
from sojourn.activities.context import ToolContext
from sojourn.activities.tool import ToolFailedError, tool


class CodeResult(BaseModel):
    """What a program did."""

    stdout: str
    stderr: str
    exit_code: int
    """Minus a signal's number if that ended it."""


class _Ran(Answer):
    stdout: Output
    stderr: Output
    exit_code: int
    timed_out: bool


@tool(timeout=LONGEST + timedelta(minutes=1))
async def code_execution(
    context: ToolContext,
    language: Literal["python", "node", "javascript", "sh"],
    code: str,
    timeout_ms: Annotated[int, Field(ge=0)] | None = None,
) -> CodeResult:
    """Run a program in the sandbox, in a process of its own.

    It runs in the workspace with an empty standard input; of one call only the files it wrote are there in the next.
    The result has what it wrote to standard output and to standard error, and its exit code.

    Args:
        language: What the code is written in; javascript is run by Node.js like node.
        code: The whole program.
        timeout_ms: How long it may take, in milliseconds; 30000 by default, at most 600000.
    """
    if not code.strip():
        raise ToolFailedError("code_execution: code is empty")
    limit = min(timedelta(milliseconds=timeout_ms), LONGEST) if timeout_ms else timedelta(seconds=30)
    name = "node" if language == "javascript" else language
    ran = await ask(context, "code", {"language": name, "code": code, "timeout_seconds": limit.total_seconds()}, _Ran)
    result = CodeResult(stdout=ran.stdout.shown(), stderr=ran.stderr.shown(), exit_code=ran.exit_code)
    if ran.timed_out:
        raise ToolFailedError(
            f"code_execution: timed out after {limit.total_seconds():g} s\n{result.model_dump_json()}"
        )
    return result
