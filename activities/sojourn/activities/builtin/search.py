"""The tools ``glob`` and ``grep``."""

from sojourn.activities.builtin.output import Answer, ask, plain
from sojourn.activities.context import ToolContext
from sojourn.activities.tool import tool

NOTHING = "no matches"


class _Found(Answer):
    paths: list[str]
    total: int
    cut: bool


class _Matched(Answer):
    text: str


@tool(idempotent=True)
async def glob(context: ToolContext, pattern: str, path: str | None = None) -> str:
    """Find files in the sandbox by their names.

    The paths come back one to a line, those changed last first, at most 200 of them. .git is left out.

    Args:
        pattern: Such as src/**/*.py: ** is any number of folders, * and ? stay within one name, {a,b} is either.
        path: The folder to search in; the workspace by default.
    """
    found = await ask(context, "glob", {"pattern": pattern, "path": path}, _Found)
    lines = list(found.paths)
    if found.total > len(lines):
        lines.append(f"[only the newest {len(lines)} of {found.total} are shown; narrow the pattern]")
    if found.cut:
        lines.append("[there is too much to search all of it; narrow the path]")
    return "\n".join(lines) or NOTHING


@tool(idempotent=True)
async def grep(context: ToolContext, pattern: str, path: str | None = None) -> str:
    """Search the contents of files in the sandbox for a regular expression.

    Matching lines come back as path:line number:text, up to 100 KB, each line cut at 2,000 characters. Binary files,
    .git and node_modules are left out.

    Args:
        pattern: The regular expression; each line is searched for itself. Start it with (?i) to ignore case.
        path: The folder to search in, or one file; the workspace by default.
    """
    matched = await ask(context, "grep", {"pattern": pattern, "path": path}, _Matched)
    return plain(matched.text).removesuffix("\n") or NOTHING
