import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from tests.sandbox.prey import LIMITS, PATIENCE, Prey, alive, ask, prey, ready, until

from sojourn.sandbox import BubblewrapSandbox, Mount, choose_sandbox, view
from sojourn.types import SandboxError

pytestmark = pytest.mark.usefixtures("bubblewrap")


@pytest.fixture
async def here() -> AsyncGenerator[Prey]:
    async with prey() as each:
        yield each


async def test_check_passes_where_sandboxes_work(here: Prey) -> None:
    await here.sandbox.check()


async def test_guest_that_the_sandbox_may_not_read_fails_the_check(here: Prey) -> None:
    if here.sandbox.owner is None:
        pytest.skip("only root's files are not the sandbox's")
    os.chown(here.folder / "guest" / "__main__.py", 0, 0)
    (here.folder / "guest" / "__main__.py").chmod(0o600)

    with pytest.raises(SandboxError, match="PermissionError"):
        await here.sandbox.check()


async def test_written_files_belong_to_the_owner(here: Prey) -> None:
    async with here.started() as sandbox:
        await ask(sandbox, "sh", "-c", "umask; touch /workspace/made; chmod 640 /workspace/made")
    made = (here.folder / "workspace" / "made").stat()

    assert (made.st_uid, made.st_gid) == (here.sandbox.owner or (os.geteuid(), os.getegid()))
    assert stat.S_IMODE(made.st_mode) == 0o640


async def test_agent_is_somebody_with_a_home(here: Prey) -> None:
    async with here.started() as sandbox:
        answer = await ask(sandbox, "sh", "-c", "id -un; id -gn; pwd; echo $HOME; touch ~/kept; cat /etc/resolv.conf")

    assert answer.out == "agent\nagent\n/workspace\n/home/agent\n"
    assert (here.folder / "home" / "kept").exists()


async def test_variables_are_those_of_the_spec(here: Prey) -> None:
    sandbox = await here.sandbox.start(replace(here.spec(), env={"COLOUR": "light green\n=", "PATH": "/usr/bin"}))
    try:
        await ready(sandbox)
        answer = await ask(sandbox, "env", "-0")
        shown = _command_lines(sandbox.pid)
    finally:
        await sandbox.kill()

    # Bubblewrap tells the folder; the shell that sets limits adds to its own variables only what it always does.
    found = dict(each.split("=", 1) for each in answer.out.split("\0") if each)
    assert {name: found[name] for name in ("COLOUR", "PATH")} == {"COLOUR": "light green\n=", "PATH": "/usr/bin"}
    assert found.keys() <= {"COLOUR", "PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}
    assert shown
    assert not any(b"light green" in each for each in shown)


async def test_variables_run_nothing_before_limits_hold(here: Prey) -> None:
    early = here.folder / "workspace" / "early"
    early.write_text("ulimit -u >> /workspace/seen\n")
    early.chmod(0o644)
    sandbox = await here.sandbox.start(replace(here.spec(), env={"BASH_ENV": "/workspace/early", "LD_BIND_NOW": "1"}))
    try:
        await ready(sandbox)
        before = (here.folder / "workspace" / "seen").exists()
        answer = await ask(sandbox, "bash", "-c", "echo $BASH_ENV $LD_BIND_NOW; env | grep LATER; cat seen")
    finally:
        await sandbox.kill()

    assert not before
    assert answer.out == f"/workspace/early 1\n{LIMITS.processes}\n"


async def test_temporary_files_are_private(here: Prey) -> None:
    name = here.folder.name
    async with here.started() as one, here.started() as other:
        own = await ask(one, "sh", "-c", f"touch /tmp/{name} /dev/shm/{name}; ls /tmp /dev/shm")
        seen = await ask(other, "ls", "/tmp", "/dev/shm")

    assert own.out.count(name) == 2
    assert name not in seen.out
    assert os.listdir("/tmp").count(name) == 1  # the folder of the test


async def test_mount_inside_a_mount_is_seen(here: Prey) -> None:
    inner = here.folder / "inner"
    inner.mkdir()
    (inner / "there").write_text("yes")
    inner.chmod(0o755)
    spec = here.spec()
    spec = replace(spec, mounts=(*spec.mounts, Mount(inner, PurePosixPath("/workspace/inner"))))
    sandbox = await here.sandbox.start(spec)
    try:
        await ready(sandbox)
        answer = await ask(sandbox, "sh", "-c", "cat inner/there; touch inner/more; touch more")
    finally:
        await sandbox.kill()

    assert answer.out == "yes"
    assert "Read-only" in answer.err
    assert (here.folder / "workspace" / "more").exists()


@pytest.mark.parametrize("way", ["link", "link/deeper"])
async def test_mount_over_a_symbolic_link_of_the_agent_is_refused(here: Prey, way: str) -> None:
    async with here.started() as sandbox:
        await ask(sandbox, "ln", "-s", "/tmp", "/workspace/link")
    spec = here.spec()
    spec = replace(spec, mounts=(*spec.mounts, Mount(here.folder / "outputs", PurePosixPath("/workspace") / way)))

    with pytest.raises(SandboxError, match="symbolic link lies in the way"):
        await here.sandbox.start(spec)


async def test_proxy_can_be_reached_and_nothing_else(here: Prey) -> None:
    path = here.folder / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as proxy:
        proxy.bind(str(path))
        proxy.listen()
        path.chmod(0o777)
        sandbox = await here.sandbox.start(replace(here.spec(), proxy=path))
        try:
            await ready(sandbox)
            script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{view.PROXY}'); print('through')"
            answer = await ask(sandbox, str(view.interpreter()), "-c", script)
        finally:
            await sandbox.kill()

    assert answer.out == "through\n", answer


async def test_folders_that_only_the_worker_may_enter_can_be_mounted(here: Prey) -> None:
    here.folder.chmod(0o700)
    async with here.started() as sandbox:
        answer = await ask(sandbox, "cat", "/mnt/session/uploads/given.txt")

    assert answer.out == "given"


async def test_many_sandboxes_run_side_by_side(here: Prey) -> None:
    async def one(number: int) -> str:
        async with here.started() as sandbox:
            return (await ask(sandbox, "echo", str(number))).out

    assert await asyncio.gather(*map(one, range(8))) == [f"{number}\n" for number in range(8)]


async def test_kill_can_be_repeated_and_tells_why_it_ended(here: Prey) -> None:
    async with here.started() as sandbox:
        running = asyncio.create_task(ask(sandbox, "sleep", "1000"))
        await asyncio.gather(sandbox.kill(), sandbox.kill())
        await sandbox.kill()

        assert await sandbox.wait() == "ended by the worker"
        assert (await running).err == "the sandbox is gone"
        assert not alive(sandbox.init)
        assert not alive(sandbox.pid)


async def test_wait_that_is_cancelled_leaves_the_sandbox_alone(here: Prey) -> None:
    async with here.started() as sandbox:
        waiting = asyncio.create_task(sandbox.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})

        assert (await ask(sandbox, "echo", "alive")).out == "alive\n"


async def test_start_that_is_cancelled_leaves_nothing(here: Prey) -> None:
    before = _children()
    for turns in (0, 1, 2, 5, 20):
        starting = asyncio.create_task(here.sandbox.start(here.spec()))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        starting.cancel()
        await asyncio.wait({starting})
        if not starting.cancelled():
            await starting.result().kill()

    await until(lambda: _children() <= before)
    await until(lambda: not _sandboxes(here.folder))


async def test_a_start_that_is_cancelled_ends_what_bubblewrap_has_just_started(
    here: Prey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first child waits for it, and does not end with it until it has gone on."""
    fake, child = tmp_path / "bwrap", tmp_path / "child"
    fake.write_text(f"#!/bin/sh\nsleep 4719 &\necho $! > {child}.new; mv {child}.new {child}; wait\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    starting = asyncio.create_task(here.sandbox.start(here.spec()))
    await until(child.exists)

    starting.cancel()
    await asyncio.wait({starting})

    await until(lambda: not alive(int(child.read_text())))


async def test_sandboxes_leave_no_open_files(here: Prey) -> None:
    async with here.started():
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with here.started():
            pass
    with pytest.raises(SandboxError):
        await here.sandbox.start(replace(here.spec(), working_dir=PurePosixPath("/nowhere")))

    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_limits_are_set_for_good(here: Prey) -> None:
    async with here.started(limits=replace(LIMITS, open_files=100, file_bytes=1024**2)) as sandbox:
        answer = await ask(sandbox, "bash", "-c", "ulimit -H -c -u -n -f; head -c 2M /dev/zero >big; stat -c %s big")

    assert [line.split()[-1] for line in answer.out.splitlines()] == ["0", "64", "100", "1024", "1048576"]


async def test_ended_guest_says_its_last_words(here: Prey) -> None:
    command = (str(view.interpreter()), "-c", "import sys; sys.exit('cannot go on')")
    sandbox = await here.sandbox.run(here.spec(), command)
    async with asyncio.timeout(PATIENCE):
        told = await sandbox.wait()

    assert told == "its program ended with status 1: cannot go on"


async def test_missing_folder_is_told(here: Prey) -> None:
    spec = here.spec()
    missing = Mount(here.folder / "gone", PurePosixPath("/mnt/gone"))

    with pytest.raises(SandboxError, match=r"gone.* to mount at /mnt/gone"):
        await here.sandbox.start(replace(spec, mounts=(*spec.mounts, missing)))
    with pytest.raises(SandboxError, match="Can't chdir to /nowhere"):
        await here.sandbox.start(replace(spec, working_dir=PurePosixPath("/nowhere")))


async def test_missing_guest_is_told(here: Prey) -> None:
    with pytest.raises(SandboxError, match="there is no guest"):
        await BubblewrapSandbox(guest=here.folder / "home").start(here.spec())


def test_owner_is_never_root() -> None:
    with pytest.raises(ValueError, match="not run as root"):
        BubblewrapSandbox(owner=0)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (None, "there is no 'bwrap' on PATH; install the package 'bubblewrap'"),
        ("echo bubblewrap 0.6.1", "bubblewrap '0.6.1' is too old; install 0.8.0 or newer"),
        (
            '[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit; echo "bwrap: No permissions" >&2; exit 1',
            "bubblewrap made no sandbox: bwrap: No permissions",
        ),
    ],
)
async def test_bubblewrap_that_does_not_work_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, told: str
) -> None:
    for tool in ("bash", "setpriv"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    if script is not None:
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SandboxError, match=told):
        await choose_sandbox("bubblewrap")
    choice = await choose_sandbox()
    assert choice.sandbox is None
    assert choice.reason is not None
    assert choice.reason.startswith(f"no bubblewrap: {told}")


async def test_bubblewrap_is_chosen_where_it_works() -> None:
    choice = await choose_sandbox("auto")

    assert choice.sandbox is not None
    assert choice.sandbox.name == "bubblewrap"
    assert choice.sandbox.isolates


def _children() -> set[str]:
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


def _sandboxes(folder: Path) -> list[str]:
    """Processes that see a folder as theirs."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if (
                entry.isdigit()
                and f"{folder.name}/workspace /workspace" in Path("/proc", entry, "mountinfo").read_text()
            ):
                found.append(entry)
        except OSError:
            continue
    return found


def _command_lines(pid: int) -> list[bytes]:
    return [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _belongs(path, pid)]


def _belongs(path: Path, pid: int) -> bool:
    """Whether a process descends from another."""
    at = int(path.parent.name)
    while at > 1 and at != pid:
        try:
            at = int(Path("/proc", str(at), "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return at == pid
