import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from tests.sandbox.prey import PATIENCE, STAND_IN, alive, ask, ready, until

from sojourn.sandbox import Mount, SandboxLimits, SandboxSpec
from sojourn.sandbox.child import Child
from sojourn.sandbox.local import LocalSandbox
from sojourn.sandbox.protocol import HOME, OUTPUTS, WORKSPACE
from sojourn.types import SandboxError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture
def spec(tmp_path: Path) -> SandboxSpec:
    for name in ("guest", "workspace", "home", "outputs"):
        (tmp_path / name).mkdir()
    shutil.copy(STAND_IN, tmp_path / "guest" / "__main__.py")
    mounts = (
        Mount(tmp_path / "workspace", WORKSPACE, writable=True),
        Mount(tmp_path / "home", HOME, writable=True),
        Mount(tmp_path / "outputs", OUTPUTS, writable=True),
    )
    return SandboxSpec(key="local", mounts=mounts)


@asynccontextmanager
async def started(spec: SandboxSpec) -> AsyncGenerator[Child]:
    sandbox = await LocalSandbox(guest=spec.mounts[0].source.parent / "guest").start(spec)
    try:
        await ready(sandbox)
        yield sandbox
    finally:
        await sandbox.kill()


async def test_guest_runs_in_the_real_folder(spec: SandboxSpec) -> None:
    async with started(spec) as sandbox:
        answer = await ask(sandbox, "pwd", "-P")

    assert answer.out.strip() == str(spec.mounts[0].source.resolve())


async def test_variables_are_those_of_the_spec_with_real_paths(
    spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOJOURN_SECRET", "hidden")
    env = {"HOME": "/home/agent", "PATH": f"{WORKSPACE}/bin:/bin:/usr/bin", "HTTP_PROXY": "http://127.0.0.1:3128"}
    async with started(replace(spec, env=env, proxy=tmp_path / "proxy.sock")) as sandbox:
        answer = await ask(sandbox, "env")

    found = dict(line.split("=", 1) for line in answer.out.splitlines())
    assert found["HOME"] == str(tmp_path / "home")
    assert found["PATH"] == f"{tmp_path}/workspace/bin:/bin:/usr/bin"
    assert found["HTTP_PROXY"] == "http://127.0.0.1:3128"
    assert found["SOJOURN_PROXY"] == str(tmp_path / "proxy.sock")
    assert ["/workspace", str(tmp_path / "workspace")] in json.loads(found["SOJOURN_MOUNTS"])
    assert "SOJOURN_SECRET" not in found


async def test_kill_ends_the_guest_and_says_so(spec: SandboxSpec) -> None:
    async with started(spec) as sandbox:
        await sandbox.kill()
        await sandbox.kill()

        assert await sandbox.wait() == "ended by the worker"


@LINUX
@pytest.mark.parametrize("end", ["kill", "leave", "guest killed"])
async def test_nothing_survives_its_end(spec: SandboxSpec, end: str) -> None:
    script = (
        "nohup setsid sleep 1000 >/dev/null 2>&1 & (trap '' TERM; setsid --fork sleep 1000 >/dev/null 2>&1); echo $PPID"
    )
    async with started(spec) as sandbox:
        answer = await ask(sandbox, "bash", "-c", script)
        await until(lambda: len(_family(sandbox.pid)) >= 4)
        lives = _family(sandbox.pid)
        if end == "kill":
            await sandbox.kill()
        elif end == "leave":
            sandbox.stdin.close()
        else:
            os.kill(int(answer.out), 9)
        async with asyncio.timeout(PATIENCE):
            told = await sandbox.wait()
        left = [pid for pid in lives if alive(pid)]

    assert not left
    expected = {"kill": "ended by the worker", "leave": "its program ended with status 0"}
    assert told == expected.get(end, "its program ended by SIGKILL")


@LINUX
async def test_local_sandbox_does_not_outlive_a_worker_that_is_killed(spec: SandboxSpec) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from sojourn.sandbox import Mount, SandboxSpec
from sojourn.sandbox.local import LocalSandbox
from sojourn.sandbox.protocol import WORKSPACE
async def main():
    folder = Path(sys.argv[1])
    spec = SandboxSpec(key="x", mounts=(Mount(folder / "workspace", WORKSPACE),))
    sandbox = await LocalSandbox(guest=folder / "guest").start(spec)
    await sandbox.stdout.readline()
    print(sandbox.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    folder = str(spec.mounts[0].source.parent)
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", script, folder, stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            lives = _family(int(await worker.stdout.readline()))
    finally:
        worker.kill()
        await worker.wait()

    # Zombies are buried by the machine's first process, in its own time.
    await until(lambda: not any(_runs(pid) for pid in lives))


@LINUX
async def test_memory_of_all_its_processes_is_bounded(spec: SandboxSpec) -> None:
    limits = SandboxLimits(memory_bytes=256 * 1024**2)
    script = "import os, signal\nos.fork(); os.fork()\nheld = bytearray(os.urandom(1024) * (120 << 10))\nsignal.pause()"
    async with started(replace(spec, limits=limits)) as sandbox:
        answer = await ask(sandbox, sys.executable, "-c", script)

        assert answer.status is None
        assert await sandbox.wait() == "out of memory (over 256 MiB)"


async def test_limits_of_files_hold(spec: SandboxSpec) -> None:
    async with started(replace(spec, limits=SandboxLimits(open_files=64, file_bytes=1024**2))) as sandbox:
        answer = await ask(sandbox, "bash", "-c", "ulimit -c -n -f; head -c 2000000 /dev/zero > big; stat -c %s big")

    assert "64" in answer.out
    assert answer.out.splitlines()[-1] == "1048576"


async def test_missing_folder_is_an_error(spec: SandboxSpec) -> None:
    with pytest.raises(SandboxError, match="no folder '/elsewhere'"):
        await LocalSandbox().start(replace(spec, working_dir=PurePosixPath("/elsewhere")))


async def test_guest_that_does_not_run_says_why(spec: SandboxSpec, tmp_path: Path) -> None:
    sandbox = await LocalSandbox(guest=tmp_path / "nowhere").start(spec)
    async with asyncio.timeout(PATIENCE):
        told = await sandbox.wait()

    assert told.startswith("its program ended with status 2: ")
    assert "nowhere" in told


def _family(pid: int) -> set[int]:
    found = {pid}
    with suppress(OSError):
        for child in Path("/proc", str(pid), "task", str(pid), "children").read_text().split():
            found |= _family(int(child))
    return found


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False
