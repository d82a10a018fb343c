"""An MCP server by the official SDK, as a program: prints its port when it listens, and writes down what it does."""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import BaseModel

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40

parser = argparse.ArgumentParser()
parser.add_argument("--transport", default="http")
parser.add_argument("--ledger", type=Path, required=True)
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--token", default="", help="a file that holds the one token that is taken")
parser.add_argument("--legacy", action="store_true", help="know the protocol with sessions only")
parser.add_argument("--stateless", action="store_true")
parser.add_argument("--json", action="store_true")
parser.add_argument("--hang", action="store_true", help="take requests and never answer")
parser.add_argument("--extra", default="", help="names of more tools, separated by commas")
parser.add_argument("--many", type=int, default=0)
arguments = parser.parse_args()

server = MCPServer("helper", log_level="ERROR")


def wrote(what: str) -> None:
    with arguments.ledger.open("a") as ledger:
        ledger.write(what + "\n")


class Size(BaseModel):
    size: int


class Colour(BaseModel):
    colour: str


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    wrote(f"add {a} {b}")
    return a + b


@server.tool()
def note(text: str) -> str:
    """Write something down."""
    wrote(f"note {text}")
    return "noted"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("that went wrong")


@server.tool()
def environment() -> str:
    """Tell the names in the environment."""
    return json.dumps(sorted(os.environ))


@server.tool()
def show() -> CallToolResult:
    """Show all kinds of content."""
    png = b64encode(PNG).decode()
    return CallToolResult(
        content=[
            TextContent(type="text", text="here"),
            ImageContent(type="image", data=png, mime_type="image/png"),
            ImageContent(type="image", data=b64encode(b"no image").decode(), mime_type="image/png"),
            AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
            ResourceLink(type="resource_link", name="page", uri="https://page.test/", description="a page"),
            EmbeddedResource(type="resource", resource=TextResourceContents(uri="note://1", text="inside")),
            EmbeddedResource(
                type="resource", resource=BlobResourceContents(uri="note://2", blob=png, mime_type="image/png")
            ),
        ],
        structured_content={"answer": 42},
    )


@server.tool()
async def slow(context: Context) -> str:
    """Take for ever, and tell how far it is."""
    wrote("slow begins")
    try:
        for step in range(1, 1_000_000):
            await context.report_progress(step, 1_000_000, "counting")
            await asyncio.sleep(0.05)
    except BaseException:
        wrote("slow was cancelled")
        raise
    return "done"


@server.tool()
def die() -> str:
    """End the server."""
    wrote("dying")
    os._exit(1)


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def die_once() -> str:
    """End the server, but only once."""
    if "dying once" in arguments.ledger.read_text():
        return "alive"
    wrote("dying once")
    os._exit(1)


@server.tool()
def huge(size: int) -> str:
    """Return a lot."""
    return "x" * size


@server.tool()
async def grow(context: Context) -> str:
    """Offer one more tool from now on."""
    server.add_tool(lambda: "grown", name="grown", description="Was not there before")
    await context.session.send_tool_list_changed()
    with contextlib.suppress(Exception):
        await context.notify_tools_changed()
    return "more"


@server.tool()
async def ask(context: Context, question: str = "Which size?") -> str:
    """Ask the user for a size."""
    wrote("asking")
    try:
        answer = await context.elicit(question, Size)
    except BaseException:
        wrote("question cancelled")
        raise
    wrote(f"answered {answer.action}")
    return f"size {answer.data.size}" if answer.action == "accept" else answer.action


@server.tool()
async def ask_twice(context: Context) -> str:
    """Ask the user for a size and a colour, at the same time."""
    size, colour = await asyncio.gather(context.elicit("Which size?", Size), context.elicit("Which colour?", Colour))
    assert size.action == colour.action == "accept"
    return f"{colour.data.colour} in {size.data.size}"


async def which(context: Context) -> Any:
    return Elicit("Which size?", Size)


@server.tool()
async def resolve(size: Annotated[Size, Resolve(which)]) -> str:
    """Ask the user for a size, in the way of the newest protocol."""
    return f"size {size.size}"


for name in filter(None, arguments.extra.split(",")):
    server.add_tool(lambda: "extra", name=name, description="An extra tool")
for number in range(arguments.many):
    server.add_tool(lambda: "one of many", name=f"tool_{number}", description="One of many")


def token() -> str:
    return Path(arguments.token).read_text()


def guarded(app: Any) -> Any:
    """The application behind a token, perhaps without the newest protocol."""

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = {key.decode().lower(): value.decode() for key, value in scope["headers"]}
        status = 0
        if arguments.hang:
            wrote("hanging")
            await asyncio.sleep(3600)
        if arguments.token and headers.get("authorization") != f"Bearer {token()}":
            wrote(f"refused {headers.get('authorization', 'nobody')}")
            status = 401
        elif arguments.legacy and headers.get("mcp-method") == "server/discover":
            status = 404
        if not status:
            await app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return guard


async def serve() -> None:
    if arguments.transport == "sse":
        app = server.sse_app()
    else:
        app = server.streamable_http_app(json_response=arguments.json, stateless_http=arguments.stateless)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for _ in range(100):
        try:
            listening.bind(("127.0.0.1", arguments.port))
            break
        except OSError:
            await asyncio.sleep(0.1)
    config = uvicorn.Config(guarded(app), log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    web = uvicorn.Server(config)
    running = asyncio.create_task(web.serve([listening]))
    while not web.started and not running.done():  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    await running


if arguments.transport == "stdio":
    wrote(f"started {os.getpid()}")
    server.run("stdio")
else:
    asyncio.run(serve())
