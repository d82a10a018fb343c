"""`sojourn files …`: files in the object store, uploaded by people and written by agents."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from sojourn.cli.command import Cli, command
from sojourn.cli.key import duration
from sojourn.types import InvalidRequestError
from sojourn.types.file import FileMetadata

app = typer.Typer(help="Upload, list and download files.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="FILE", help="Id of a file.")]

_SHOWN_FROM_BYTES = 4 * 1024 * 1024
"""What is smaller is done before anybody would look at its progress."""


@command(app, "upload")
async def upload(
    cli: Cli,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files on this machine; - is standard input.")],
    name: Annotated[str | None, typer.Option(help="What it is called; by default as on this machine.")] = None,
    mime_type: Annotated[str | None, typer.Option("--type", help="Media type; by default after its ending.")] = None,
    expires_in: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 12h or 30d; by default it is kept.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download/--no-download", help="Whether its content is given out again.")
    ] = True,
) -> None:
    """Store files in the workspace, and print their ids."""
    if name is not None and len(paths) > 1:
        raise InvalidRequestError("--name is for one file; upload them one by one", param="name")
    life = duration(expires_in) if expires_in is not None else None
    async with cli.runtime() as runtime:
        for path in paths:
            with _progress(cli, path.name, _size(path)) as progress:
                made = await runtime.upload_file(
                    sys.stdin.buffer if str(path) == "-" else path,
                    filename=name or (None if str(path) != "-" else "stdin"),
                    mime_type=mime_type,
                    expires_in=life,
                    downloadable=download,
                    progress=progress,
                )
            cli.out.result(made, made.id)


@command(app, "list")
async def list_(
    cli: Cli,
    session: Annotated[str | None, typer.Option(help="Only those of this session.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries on a page.")] = 20,
    page: Annotated[str | None, typer.Option(help="Cursor of the page, from the page before.")] = None,
) -> None:
    """List files, newest first."""
    async with cli.runtime() as runtime:
        found = await runtime.list_files(session=session, limit=limit, page=page)
    if cli.out.as_json:
        cli.out.json_line({"data": found.data, "next_page": found.next_page})
        return
    rows = [
        (each.id, each.filename, each.size_bytes, each.origin, each.session_id, each.created_at) for each in found.data
    ]
    cli.out.table(("id", "name", "bytes", "origin", "session", "created"), rows)
    if found.next_page:
        cli.out.note(f"more with: --page {found.next_page}")


@command(app, "get")
async def get(cli: Cli, file: Id) -> None:
    """Show a file's metadata."""
    async with cli.runtime() as runtime:
        found = await runtime.get_file(file)
    cli.out.result(found)
    if not cli.out.as_json:
        cli.out.fields(
            {
                "id": found.id,
                "name": found.filename,
                "type": found.mime_type,
                "bytes": found.size_bytes,
                "sha256": found.sha256,
                "origin": found.origin,
                "session": found.session_id,
                "created": found.created_at,
                "expires": found.expires_at,
                "downloadable": "yes" if found.downloadable else "no",
            }
        )


@command(app, "download")
async def download(
    cli: Cli,
    file: Id,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File or folder to write to; by default its name, here; - is standard output."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write a file's content to this machine."""
    async with cli.runtime() as runtime:
        found = await runtime.get_file(file)
        if output is not None and str(output) == "-":
            async for chunk in runtime.open_file(found):
                sys.stdout.buffer.write(chunk)
            return
        path = _target(found, output)
        if path.exists() and not force:
            raise InvalidRequestError(f"{str(path)!r} exists; repeat it with --force, or with --output")
        with _progress(cli, path.name, found.size_bytes) as progress:
            await runtime.download_file(found, path, progress=progress)
    cli.out.result({"id": file, "path": str(path), "size_bytes": found.size_bytes}, str(path))


@command(app, "delete")
async def delete(
    cli: Cli, file: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove a file. Sessions keep the copies they have."""
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidRequestError("deleting cannot be undone; repeat it with --yes")
        typer.confirm(f"Delete file {file}?", abort=True, err=True)
    async with cli.runtime() as runtime:
        await runtime.delete_file(file)
    cli.out.result({"id": file, "action": "deleted"}, f"deleted {file}")


def _target(file: FileMetadata, output: Path | None) -> Path:
    """Where to write. An agent chooses the names of its outputs, and must not choose a folder of this machine."""
    name = file.filename.rpartition("/")[2]
    safe = name if name.strip(".") else file.id
    if output is None:
        return Path(safe)
    return output / safe if output.is_dir() else output


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@contextmanager
def _progress(cli: Cli, name: str, size_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, for people who would wait long enough to see it."""
    console = Console(stderr=True)
    if cli.out.as_json or not console.is_terminal or (size_bytes or 0) < _SHOWN_FROM_BYTES:
        yield lambda size_bytes: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("".join(each for each in name if each.isprintable())[:40], total=size_bytes)
        yield lambda size_bytes: bar.advance(task, size_bytes)
