"""What the model calls the tools of MCP servers: names that every provider takes, and never two alike."""

import re
from hashlib import blake2b

PREFIX = "mcp__"

LONGEST = 64
"""What the strictest providers take."""

_ODD = re.compile(r"[^A-Za-z0-9_-]")
_MARK = 8


def tool_name(server: str, tool: str) -> str:
    """The name of a server's tool for the model: ``mcp__<server>__<tool>``.

    Where that would be too long, hold a character that providers refuse, or could be read as another server's tool, it
    is made to fit and gets a mark made of both names. It depends on nothing else, so it stays what it is whatever
    other tools come and go.
    """
    plain = f"{PREFIX}{server}__{tool}"
    if len(plain) <= LONGEST and not _ODD.search(plain) and server and tool and _splits_one_way(server):
        return plain
    mark = blake2b(f"{server}\0{tool}".encode(errors="replace"), digest_size=_MARK // 2).hexdigest()
    return f"{_ODD.sub('_', plain)[: LONGEST - _MARK - 1]}_{mark}"


def _splits_one_way(server: str) -> bool:
    """Whether the first ``__`` after the prefix is where the server's name ends."""
    return "__" not in server and not server.endswith("_")
