"""The newest Python SDK, which the development environment has; `make compat` tries the others."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.compat.matrix import README, markdown, read, shown
from tests.compat.run import PYTHON_RELEASES
from tests.compat.world import HERE, World, run_script, world


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World, None]:
    async with world(tmp_path_factory.mktemp("compat")) as served:
        yield served


@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", ["sync", "async"])
async def test_newest_sdk_takes_every_step(served: World, client: str) -> None:
    command: list[str | Path] = [sys.executable, "-I", HERE / "script.py", *(["--sync"] if client == "sync" else [])]
    row = await run_script(command, served, sdk="Python", version=version("anthropic"), client=client)

    assert row.passed == row.steps, row.failed


async def test_example_answers(served: World) -> None:
    example = str(HERE.parents[1] / "examples" / "managed_agents.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, example),
        env={**os.environ, "ANTHROPIC_BASE_URL": served.url, "ANTHROPIC_API_KEY": served.key},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(100):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert (process.returncode, said.decode()) == (0, "You said: Which way to the sea?\n")


def test_installed_release_is_the_newest_of_the_matrix() -> None:
    assert version("anthropic") == PYTHON_RELEASES[-1]


def test_readme_shows_the_matrix() -> None:
    assert shown(README.read_text()) == markdown(read())


def test_matrix_holds_all_releases_and_no_failure() -> None:
    rows = read()

    assert {row.version for row in rows if row.sdk == "Python"} == set(PYTHON_RELEASES)
    assert [row for row in rows if row.steps and row.passed < row.steps] == []
