import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.docker_daemon import IMAGE, DockerDaemon
from tests.sandbox.prey import PATIENCE, STAND_IN, ask, ready, until

from sojourn.sandbox import Mount, SandboxLimits, SandboxSpec
from sojourn.sandbox.child import LINE_LIMIT_BYTES
from sojourn.sandbox.docker import LABEL, DockerProcess, DockerSandbox
from sojourn.sandbox.protocol import UPLOADS, WORKSPACE
from sojourn.types import SandboxError


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncGenerator[DockerDaemon]:
    # Unix sockets have short paths.
    folder = tmp_path / "d"
    folder.mkdir()
    async with DockerDaemon(folder).serving() as daemon:
        yield daemon


@pytest.fixture
def spec(tmp_path: Path) -> SandboxSpec:
    for name in ("workspace", "uploads", "guest"):
        (tmp_path / name).mkdir()
    shutil.copy(STAND_IN, tmp_path / "guest" / "__main__.py")
    mounts = (Mount(tmp_path / "workspace", WORKSPACE, writable=True), Mount(tmp_path / "uploads", UPLOADS))
    return SandboxSpec(key="k1", mounts=mounts, env={"COLOUR": "green"})


def sandbox_of(daemon: DockerDaemon, **options: Any) -> DockerSandbox:
    options = {"image": IMAGE, "guest": daemon.folder.parent / "guest", **options}
    return DockerSandbox(host=f"unix://{daemon.socket}", **options)


@asynccontextmanager
async def started(daemon: DockerDaemon, spec: SandboxSpec) -> AsyncGenerator[DockerProcess]:
    process = await sandbox_of(daemon).start(spec)
    try:
        await ready(process)
        yield process
    finally:
        await process.kill()


@pytest.mark.parametrize("switches", [True, False])
async def test_guest_runs_in_a_container(daemon: DockerDaemon, spec: SandboxSpec, switches: bool) -> None:
    daemon.switches = switches
    async with started(daemon, spec) as process:
        answer = await ask(process, "sh", "-c", "echo $COLOUR; echo wrong >&2")

    assert (answer.out, answer.err) == ("green\n", "wrong\n")
    assert not daemon.containers


async def test_container_has_neither_network_nor_rights(
    daemon: DockerDaemon, spec: SandboxSpec, tmp_path: Path
) -> None:
    limits = SandboxLimits(memory_bytes=1024**3, processes=100)
    async with started(daemon, replace(spec, limits=limits, proxy=tmp_path / "proxy.sock")):
        config = next(iter(daemon.containers.values())).config

    host = config["HostConfig"]
    assert config["NetworkDisabled"] is True
    assert not config["User"].startswith("0")
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (1024**3, 1024**3, 100)
    assert host["LogConfig"] == {"Type": "none"}
    binds = {each["Target"]: each["ReadOnly"] for each in host["Mounts"] if each["Type"] == "bind"}
    assert binds == {"/workspace": False, "/mnt/session/uploads": True, "/run/sojourn/proxy.sock": True}
    assert config["Labels"][f"{LABEL}.sandbox"] == "k1"


async def test_long_lines_pass_in_both_directions(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    (spec.mounts[0].source / "long").write_text("x" * 5_000_000)
    async with started(daemon, spec) as process:
        answer = await ask(process, "cat", str(spec.mounts[0].source / "long"))
        long = await ask(process, "sh", "-c", f": {'y' * 100_000}; echo done")

    assert len(answer.out) == 5_000_000
    assert long.out == "done\n"


async def test_end_of_the_guest_is_told_with_its_last_words(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    (daemon.folder.parent / "guest" / "__main__.py").write_text("import sys; sys.exit('cannot go on')")
    process = await sandbox_of(daemon).start(spec)
    async with asyncio.timeout(PATIENCE):
        told = await process.wait()

    assert told == "its program ended with status 1: cannot go on"
    assert not daemon.containers


async def test_out_of_memory_is_told(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    async with started(daemon, spec) as process:
        daemon.out_of_memory = True
        await ask(process, "sh", "-c", "kill -9 $PPID")
        told = await process.wait()

    assert told == "out of memory (over 2.0 GiB)"


async def test_killed_container_is_removed(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    async with started(daemon, spec) as process:
        hanging = asyncio.create_task(ask(process, "sleep", "1000"))
        await process.kill()
        await process.kill()

        assert await process.wait() == "ended by the worker"
        assert (await hanging).err == "the sandbox is gone"
    assert not daemon.containers


async def test_daemon_that_dies_ends_its_sandboxes(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    async with started(daemon, spec) as process:
        await daemon.stop()
        async with asyncio.timeout(PATIENCE):
            told = await process.wait()

    assert "Docker" in told or "ended" in told


async def test_reader_that_has_enough_holds_up_the_guest(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    (daemon.folder.parent / "guest" / "__main__.py").write_text("import os\nwhile True: os.write(1, bytes(1 << 16))")
    process = await sandbox_of(daemon).start(spec)
    try:
        buffer: bytearray = process.stdout._buffer  # type: ignore[attr-defined]
        await until(lambda: not process._valve.open.is_set())
        assert len(buffer) <= 2 * LINE_LIMIT_BYTES + 2**16
        await process.stdout.readexactly(2 * LINE_LIMIT_BYTES)
        await until(lambda: len(buffer) > LINE_LIMIT_BYTES)
    finally:
        await process.kill()


async def test_container_that_cannot_start_is_removed(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    daemon.broken_start = True

    with pytest.raises(SandboxError, match="Docker refuses: no such runtime"):
        await sandbox_of(daemon).start(spec)
    assert not daemon.containers


async def test_check_removes_what_dead_workers_left_alone(daemon: DockerDaemon, spec: SandboxSpec) -> None:
    mine = sandbox_of(daemon, worker="slot-1")
    left = {"Labels": {LABEL: "slot-1"}, "HostConfig": {"Mounts": []}}
    other = {"Labels": {LABEL: "slot-2"}, "HostConfig": {"Mounts": []}}
    gone = {"Labels": {LABEL: f"{os.uname().nodename}/{2**22 + 1}"}, "HostConfig": {"Mounts": []}}
    ids = [daemon._create(each) for each in (left, other, gone)]
    process = await mine.start(spec)
    try:
        await mine.check()

        assert set(daemon.containers) == {ids[1], process.id}
    finally:
        await process.kill()


async def test_missing_image_is_told_with_the_way_out(daemon: DockerDaemon) -> None:
    with pytest.raises(SandboxError, match="no image 'other:2'; docker pull other:2"):
        await sandbox_of(daemon, image="other:2").check()


async def test_missing_daemon_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"no Docker daemon at unix:.*; start Docker, or set DOCKER_HOST"):
        await DockerSandbox(host=f"unix://{tmp_path}/none.sock").check()


def test_unknown_address_is_refused() -> None:
    with pytest.raises(SandboxError, match="set DOCKER_HOST"):
        DockerSandbox(host="ftp://machine")
