"""Runs the official SDKs against `sojourn up`: ``python -m tests.compat.run [--python VERSION…] [--no-node]``.

Each release has an environment of its own, kept in ``.compat/``. A whole run renews ``matrix.json`` and the table of
the README.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from rich.console import Console
from tests.compat.matrix import Row, show, update_readme, write
from tests.compat.world import HERE, World, run_script, world

PYTHON_RELEASES = ("0.125.0", "1.0.0", "1.5.0", "1.10.0", "1.17.0", "2.0.0", "2.4.0", "2.11.0")
"""Where the SDK's behaviour towards a server has changed, and the newest."""
NODE_RELEASES = ("1.11.0",)
CACHE = HERE.parents[1] / ".compat"
INSTALL_SECONDS = 600


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.run", description="Try the official SDKs.")
    parser.add_argument("--python", action="append", metavar="VERSION", help="only these releases; repeat for more")
    parser.add_argument("--no-node", action="store_true", help="leave the TypeScript SDK out")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    rows = asyncio.run(_run(tuple(arguments.python or PYTHON_RELEASES), not arguments.no_node, console))
    show(console, rows)
    if not arguments.python and not arguments.no_node:
        write(rows)
        if not update_readme(rows):
            console.print("the README has no place for the table")
    sys.exit(any(row.steps and row.passed < row.steps for row in rows))


async def _run(releases: tuple[str, ...], node: bool, console: Console) -> list[Row]:
    pythons = {release: _python(release, console) for release in releases}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sojourn-compat-") as folder:
        async with world(Path(folder) / "data") as served:
            for release, python in pythons.items():
                async for row in _both(python, release, served):
                    rows.append(_said(row, console))
            for release in NODE_RELEASES if node else ():
                rows.append(_said(await _node(release, served, console), console))
    return rows


async def _both(python: Path, release: str, served: World) -> AsyncGenerator[Row, None]:
    for client in ("sync", "async"):
        # Without the variables of the shell and the folder of the script, which is not its own.
        command: list[str | Path] = [python, "-I", HERE / "script.py", *(["--sync"] if client == "sync" else [])]
        yield await run_script(command, served, sdk="Python", version=release, client=client)


async def _node(release: str, served: World, console: Console) -> Row:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return Row("TypeScript", release, "async", 0, 0, "not run: no node or npm here")
    folder = CACHE / f"node-{release}"
    _once(folder, console, "npm", "install", "--silent", "--no-fund", "--no-audit", f"@anthropic-ai/sdk@{release}")
    # Modules are looked for beside the script.
    script = shutil.copy(HERE / "script.mjs", folder)
    return await run_script(["node", script], served, sdk="TypeScript", version=release, client="async")


def _python(release: str, console: Console) -> Path:
    """The interpreter of an environment that has the release."""
    folder = CACHE / f"python-{release}"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=INSTALL_SECONDS)
    options = ("--quiet", "--disable-pip-version-check")
    _once(folder, console, python, "-m", "pip", "install", *options, f"anthropic=={release}")
    return python


def _once(folder: Path, console: Console, *command: str | Path) -> None:
    """Run a command in the folder unless that has been done before."""
    stamp = folder / ".installed"
    if stamp.exists():
        return
    console.print(f"installing into {folder.relative_to(CACHE.parent)}")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([*map(str, command)], cwd=folder, check=True, timeout=INSTALL_SECONDS)
    stamp.touch()


def _said(row: Row, console: Console) -> Row:
    console.print(f"{row.sdk} {row.version} {row.client}: {row.outcome}")
    return row


if __name__ == "__main__":
    main()
