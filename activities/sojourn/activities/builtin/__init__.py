"""The built-in tools that run in the session's workspace (Managed Agents API §5.1)."""

from sojourn.activities.builtin.code import code_execution
from sojourn.activities.builtin.file import edit, read, write
from sojourn.activities.builtin.output import fit
from sojourn.activities.builtin.search import glob, grep
from sojourn.activities.builtin.shell import bash
from sojourn.activities.tool import Toolbox


def built_in_tools() -> Toolbox:
    """The tools that need a workspace. They all run in its sandbox, through its guest."""
    return Toolbox([bash, read, write, edit, glob, grep, code_execution])


__all__ = ["built_in_tools", "fit"]
