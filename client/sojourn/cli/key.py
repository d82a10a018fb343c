"""`sojourn keys …`: who may use the HTTP gateway."""

import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.client.key import KeyStore
from sojourn.types import InvalidRequestError, KeyId
from sojourn.types.key import SCOPES

app = typer.Typer(help="API keys of the HTTP gateway.", no_args_is_help=True)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@command(app, "create")
async def create(
    cli: Cli,
    name: Annotated[str, typer.Option(help="For people.")],
    scope: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(SCOPES)}; repeat for more, all by default.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 12h or 30d; by default until it is revoked.")
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(metavar="ENVIRONMENT", help="For the workers of a self-hosted environment, and nothing else."),
    ] = None,
) -> None:
    """Make a key for the workspace and the user, and print its token, which is shown this once."""
    life = duration(expires_in) if expires_in is not None else None
    async with cli.runtime() as runtime:
        owner, keys = cli.connection.owner, KeyStore(runtime.client, task_queue=runtime.task_queue)
        of = (await runtime.get_environment(environment, owner=owner)).id if environment else None
        made = await keys.create(name, owner=owner, scopes=tuple(scope or SCOPES), expires_in=life, environment_id=of)
    key = made.info
    cli.out.result({"token": made.token, "key": key}, made.token)
    ends = f", until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
    may = f"serve environment {of}" if of else ", ".join(key.scopes)
    cli.out.note(f"key {key.id} of workspace {key.owner.workspace!r} may {may}{ends}")
    cli.out.note("the token is not stored anywhere; keep it where secrets are kept")


@command(app, "list")
async def list_(
    cli: Cli,
    every: Annotated[
        bool, typer.Option("--all", help="Revoked and expired ones too, as long as they are kept.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries on a page.")] = 20,
    page: Annotated[str | None, typer.Option(help="Cursor of the page, from the page before.")] = None,
) -> None:
    """List the workspace's keys, newest first."""
    workspace = cli.connection.owner.workspace
    async with _keys(cli) as keys:
        found = await keys.page(workspace=workspace, include_ended=every, limit=limit, cursor=page)
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = [
        (each.id, each.name, each.status, ",".join(each.scopes), each.owner.user, each.created_at, each.expires_at)
        for each in found.data
    ]
    cli.out.table(("id", "name", "status", "scopes", "user", "created", "expires"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


@command(app, "revoke")
async def revoke(
    cli: Cli,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of the key.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make a key open nothing from now on. Gateways notice within seconds."""
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidRequestError("revoking cannot be undone; repeat it with --yes")
        typer.confirm(f"Revoke key {key}?", abort=True, err=True)
    async with _keys(cli) as keys:
        revoked = await keys.revoke(KeyId(key), workspace=cli.connection.owner.workspace)
    cli.out.result(revoked, f"key {revoked.id} ({revoked.name}) is {revoked.status}")


def duration(text: str) -> timedelta:
    """A time as people write it: ``90s``, ``30m``, ``12h``, ``30d``, ``4w``.

    Raises:
        InvalidRequestError: It is none.
    """
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if found is None:
        raise InvalidRequestError(f"time {text!r} is none; write it as 90s, 30m, 12h, 30d or 4w", param="expires_in")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@asynccontextmanager
async def _keys(cli: Cli) -> AsyncGenerator[KeyStore, None]:
    async with cli.runtime() as runtime:
        yield KeyStore(runtime.client, task_queue=runtime.task_queue)
