"""The shell in the sandbox: what its commands do, how they can be told apart, and where a worker dies of one."""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sojourn.activities.builtin import built_in_tools
from sojourn.activities.context import ToolContext
from sojourn.activities.tool import Toolbox
from sojourn.sandbox import choose_sandbox
from sojourn.types import AgentToolset, SandboxError
from sojourn.types.agent import ToolOptions

SHELL = "bash"
SANDBOX = "bubblewrap"

READ = "echo ledger:; touch ledger; cat ledger"
"""The command that reads the ledger back."""

_KEY = re.compile(r"key-[0-9a-f]{16}")
_WRITES = re.compile(r"echo (key-[0-9a-f]{16}) >> ledger")
_LEFT_SECONDS = 600


def key(bits: int) -> str:
    """The key of a command, out of 64 bits."""
    return f"key-{bits:016x}"


def command(key: str, *, seconds: float, left: bool, marker: str) -> str:
    """A command that writes its key into the ledger, says so, and sleeps.

    Args:
        key: Its own.
        seconds: How long it sleeps; thousandths count.
        left: Whether it leaves something running in the background.
        marker: Seven digits of the campaign; they show in the command line of all that sleeps.
    """
    behind = f"sleep {_LEFT_SECONDS}.000{marker} > left.log 2>&1 &\n" if left else ""
    return f"{behind}echo {key} >> ledger; echo {key}; sleep {seconds:.3f}{marker}"


def written(command: object) -> str:
    """The key that a command writes; empty if it writes none."""
    found = _WRITES.search(str(command))
    return found.group(1) if found else ""


def keys(text: str) -> list[str]:
    """The keys in a text, in order."""
    return _KEY.findall(text)


def toolset() -> AgentToolset:
    """The shell alone, free to be used."""
    return AgentToolset(
        default_config=ToolOptions(enabled=False),
        configs=(ToolOptions(name=SHELL, enabled=True, permission="allow"),),
    )


def watched(sending: Callable[[ToolContext], None]) -> Toolbox:
    """The shell as workers offer it.

    Args:
        sending: Called when the sandbox runs and the command is about to go there; it may not return.
    """
    shell = built_in_tools().get(SHELL)
    assert shell is not None
    assert shell.context_parameter is not None
    parameter, run = shell.context_parameter, shell.function

    async def function(**arguments: Any) -> str:
        context = arguments[parameter]
        await context.workspace.guest()
        await asyncio.to_thread(sending, context)
        return str(await run(**arguments))

    return Toolbox([replace(shell, function=function)])


async def lacking() -> str:
    """Why there can be no shell on this machine; empty where there can.

    Raises:
        SandboxError: There can be none, and this is CI, where there must be one.
    """
    try:
        await choose_sandbox(SANDBOX)
    except SandboxError as error:
        if os.environ.get("CI"):
            raise
        return str(error)
    return ""
