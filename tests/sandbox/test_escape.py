"""Attacks on a sandbox of bubblewrap, as the user of the test run; where that is root, as an ordinary user too."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox.siege import ACTS, ROOT_ACTS

PATIENCE = 150
USER = "61999"

ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("bubblewrap")


@pytest.mark.parametrize("name", ACTS)
async def test_attack_fails(name: str) -> None:
    await ACTS[name]()


@pytest.mark.skipif(not ROOT, reason="the tests run as an ordinary user already")
@pytest.mark.parametrize("name", ACTS)
async def test_attack_fails_for_an_ordinary_user(name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *_as_user(),
        *(sys.executable, "-m", "tests.sandbox.siege", name),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=REPOSITORY,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, told.decode(errors="replace")


@pytest.mark.skipif(not ROOT, reason="only root can make a program of root")
@pytest.mark.parametrize("name", ROOT_ACTS)
async def test_attack_that_root_has_to_prepare_fails(name: str) -> None:
    await ROOT_ACTS[name]()


def _as_user() -> Iterator[str]:
    """Starts a program as a user who can get at Python and at the tests, even where they lie in root's own folder."""
    bwrap = shutil.which("bwrap")
    assert bwrap is not None
    yield from (bwrap, "--die-with-parent", "--dev-bind", "/", "/")
    needed = {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY}
    closed = {folder for path in needed if (folder := _closed(path)) is not None}
    for folder in closed:
        yield from ("--perms", "0755", "--tmpfs", str(folder))
    for path in needed:
        for folder in (each for each in closed if path.is_relative_to(each)):
            # Made here, for the folders that a mount makes on its way are closed too.
            for between in reversed(path.parents[: len(path.relative_to(folder).parts) - 1]):
                yield from ("--dir", str(between))
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--", "setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs", "--")


def _closed(path: Path) -> Path | None:
    """The first folder on the way there that only its owner may enter."""
    return next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
