"""Asking MCP servers for their tools."""

import asyncio
from collections.abc import Sequence

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from mcp import MCPError, types
from pydantic import JsonValue, ValidationError
from pydantic_core import to_json

from sojourn.activities.mcp.connection import Connection, ServerLostError
from sojourn.activities.mcp.http import lost
from sojourn.activities.mcp.pool import McpPool
from sojourn.types.agent import McpServer
from sojourn.types.mcp import McpListing, McpTool
from sojourn.types.session import SessionInput

MAX_TOOLS = 512
"""Of one server. Models choose badly among many fewer, and providers refuse more."""

MAX_DESCRIPTION = 10_000
"""Characters; what a server says about a tool beyond that is cut."""

_ANYTHING: dict[str, JsonValue] = {"type": "object"}


async def listings(
    pool: McpPool, workflow_id: str, start: SessionInput, names: Sequence[str], *, limit_bytes: int
) -> list[McpListing]:
    """What the servers of a session offer, all asked at the same time.

    Args:
        pool: The worker's connections.
        workflow_id: The session's.
        start: What its run started from.
        names: The servers to ask.
        limit_bytes: What all answers together may take as they are stored.
    """
    servers = {server.name: server for server in start.agent.definition.mcp_servers}
    room = limit_bytes // max(len(names), 1)
    asked = (_listing(pool, workflow_id, start, servers[name], room) for name in names if name in servers)
    return list(await asyncio.gather(*asked))


async def _listing(
    pool: McpPool, workflow_id: str, start: SessionInput, server: McpServer, room_bytes: int
) -> McpListing:
    try:
        tools = await _tools(pool, workflow_id, start, server)
    except ServerLostError as error:
        return McpListing(server=server.name, failure=error.failure)
    except MCPError as error:
        return _failed(server, f"MCP server {server.name!r} does not tell its tools: {error.message[:200]}")
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        return _failed(server, f"MCP server {server.name!r} answers with no list of tools: {where}: {fault['msg']}")
    except TimeoutError:
        return _failed(server, f"MCP server {server.name!r} did not tell its tools in time")
    except Exception as error:
        # Whatever the library makes of a server that does not keep to the protocol.
        words = " ".join(str(error).split())[:200]
        return _failed(server, f"MCP server {server.name!r} does not tell its tools: {type(error).__name__}: {words}")
    return _fitted(server, [tool_of(each) for each in tools], room_bytes)


async def _tools(pool: McpPool, workflow_id: str, start: SessionInput, server: McpServer) -> Sequence[types.Tool]:
    connection = await pool.get(workflow_id, start, server)
    try:
        return await _listed(pool, connection)
    except (ServerLostError, TimeoutError) as error:
        pool.discard((workflow_id, server), connection)
        if isinstance(error, TimeoutError):
            raise
    # The connection of before may have ended without our notice.
    return await _listed(pool, await pool.get(workflow_id, start, server))


async def _listed(pool: McpPool, connection: Connection) -> Sequence[types.Tool]:
    async with asyncio.timeout(pool.patience.total_seconds()):
        return await connection.list_tools()


def tool_of(tool: types.Tool) -> McpTool:
    """A tool as it is stored. A schema that is none becomes one that takes anything: the server will judge."""
    hints = tool.annotations or types.ToolAnnotations()
    return McpTool(
        name=tool.name,
        description=(tool.description or hints.title or "")[:MAX_DESCRIPTION],
        input_schema=_schema(tool.input_schema),
        read_only=hints.read_only_hint is True,
        idempotent=hints.idempotent_hint is True,
    )


def _schema(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, ValueError, RecursionError):
        return _ANYTHING
    return schema if schema.get("type") == "object" else _ANYTHING


def _fitted(server: McpServer, tools: Sequence[McpTool], room_bytes: int) -> McpListing:
    kept: list[McpTool] = []
    names: set[str] = set()
    for tool in tools[:MAX_TOOLS]:
        room_bytes -= len(to_json(tool))
        if room_bytes < 0:
            break
        if tool.name not in names:
            names.add(tool.name)
            kept.append(tool)
    return McpListing(server=server.name, tools=tuple(kept), left_out=len(tools) - len(kept))


def _failed(server: McpServer, words: str) -> McpListing:
    return McpListing(server=server.name, failure=lost(words))
