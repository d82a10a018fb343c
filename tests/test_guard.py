import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = f"""
[pytest]
pythonpath = {ROOT}
addopts = --import-mode=importlib -p no:cacheprovider
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
timeout = 5
"""
CONFTEST = """
from tests.guard import Guard

def pytest_configure(config):
    config.pluginmanager.register(Guard(config))
"""
TEST = """
import asyncio, contextlib, subprocess, sys
import pytest

CHILD = "import time; print('born', flush=True); time.sleep(600)"

@pytest.fixture
async def endless():
    # It keeps the standard error of the run, which somebody reads to its end.
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
    child.stdout.readline()
    yield
    await asyncio.Event().wait()

@pytest.mark.parametrize("good", [True, False])
async def test_with_an_endless_teardown(endless, good):
    assert good

@pytest.mark.parametrize("number", range(9))
async def test_of_something_else(number):
    pass
"""


def test_a_teardown_that_hangs_ends_its_process_and_not_the_run(tmp_path: Path) -> None:
    for name, text in (("pytest.ini", SETTINGS), ("conftest.py", CONFTEST), ("test_it.py", TEST)):
        (tmp_path / name).write_text(text)
    keep = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-rA"]

    ended = subprocess.run(run, cwd=tmp_path, env=keep, capture_output=True, text=True, timeout=120, check=False)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    for case in ("True", "False"):
        assert f"test_it.py::test_with_an_endless_teardown[{case}] did not end within 5 seconds" in ended.stderr
        assert f"crashed while running 'test_it.py::test_with_an_endless_teardown[{case}]'" in ended.stdout
    assert "await asyncio.Event().wait()" in ended.stderr
    assert ended.stdout.count("PASSED test_it.py::test_of_something_else") == 9
