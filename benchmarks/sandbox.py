"""What the sandbox costs: its start, calls in it beside plain processes, a tool's turn, checkpoints."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import perf_counter

from report import Row, Table, percentile, spread
from script import BASH_SCRIPT, SANDBOX_SCRIPTS, look_up
from setting import Setting
from talk import Ours

from sojourn.client import connect_client
from sojourn.sandbox import BubblewrapSandbox, Mount, Sandbox, SandboxSpec, tree
from sojourn.sandbox.bundle import pack, unpack
from sojourn.sandbox.guest_client import Guest
from sojourn.sandbox.protocol import WORKSPACE
from sojourn.types import AgentDefinition, AgentToolset
from sojourn.worker import SojournWorker, WorkerOptions

COMMAND = "true"
_TEXT = "The second paragraph applies where the first one does not.\n" * 100
"""About 6 KB, a small source file."""
_LIMIT = 8 * 1024**3


@dataclass(frozen=True)
class Times:
    """Seconds of one thing done many times, ours and bare."""

    ours: list[float]
    bare: list[float]


async def run(setting: Setting) -> Table:
    sandbox = BubblewrapSandbox()
    await sandbox.check()
    rows: list[Row] = []
    with TemporaryDirectory(prefix="sojourn-bench-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        rows.append(await _starts(setting, sandbox, folder))
        async with _guest(sandbox, folder / "calls") as guest:
            rows.append(await _commands(setting, guest))
            rows += await _files(setting, guest, folder)
        rows.append(await _turns(setting, sandbox, folder / "workspaces"))
        rows += await _checkpoints(setting, folder)
    return Table(
        "sandbox",
        "7. Sandbox (bubblewrap) beside the bare machine",
        rows,
        (
            "bare is the same thing without a sandbox in the same run: a process started from here, a file of this"
            " machine, a turn with a function tool, a copy of the folder by cp -a; interleaved, one after the other.",
            "A command in the sandbox goes to a shell that runs already; the bare one starts `bash -c` anew, which is"
            " why ours may be faster.",
        ),
        sides=("sandbox", "bare"),
    )


async def _starts(setting: Setting, sandbox: Sandbox, folder: Path) -> Row:
    """From nothing to the first command's answer; bare: bash and its answer."""

    async def ours(number: int) -> None:
        async with _guest(sandbox, folder / f"start{number}") as guest:
            await guest.call("bash", {"command": COMMAND, "timeout_seconds": 60})

    async def bare(number: int) -> None:
        await _process("bash", "-c", COMMAND)

    times = await _timed(setting, "starts", setting.pick(30, 10, 1), ours, bare)
    return _row("start of a sandbox and its first command: p50 / p95", times)


async def _commands(setting: Setting, guest: Guest) -> Row:
    async def ours(number: int) -> None:
        await guest.call("bash", {"command": "/bin/true", "timeout_seconds": 60})

    async def bare(number: int) -> None:
        await _process("bash", "-c", "/bin/true")

    times = await _timed(setting, "commands", setting.pick(300, 60, 2), ours, bare)
    over = percentile(times.ours, 50) - percentile(times.bare, 50)
    return _row(
        "a shell command: p50 / p95", times, aim="p50 ≤ bare + 15 ms", met=over <= 0.015, more={"overhead_p50": over}
    )


async def _files(setting: Setting, guest: Guest, folder: Path) -> list[Row]:
    path = folder / "bare.txt"

    async def write(number: int) -> None:
        await guest.call("write", {"file_path": "file.txt", "content": _TEXT + str(number)})

    async def read(number: int) -> None:
        await guest.call("read", {"file_path": "file.txt", "view_range": None})

    async def edit(number: int) -> None:
        old, new = ("second", "2nd") if number % 2 == 0 else ("2nd", "second")
        await guest.call("edit", {"file_path": "file.txt", "old_string": old, "new_string": new, "replace_all": True})

    # In a thread, as whoever serves others at the same time has to.
    async def bare_write(number: int) -> None:
        await asyncio.to_thread(path.write_text, _TEXT + str(number))

    async def bare_read(number: int) -> None:
        await asyncio.to_thread(path.read_text)

    async def bare_edit(number: int) -> None:
        await asyncio.to_thread(lambda: path.write_text(path.read_text().replace("second", "second")))

    kinds: tuple[tuple[str, Do, Do], ...] = (
        ("write", write, bare_write),
        ("read", read, bare_read),
        ("edit", edit, bare_edit),
    )
    rounds = setting.pick(300, 60, 2)
    return [
        _row(f"{name} a file of 6 KB: p50 / p95", await _timed(setting, name, rounds, ours, bare))
        for name, ours, bare in kinds
    ]


async def _turns(setting: Setting, sandbox: Sandbox, workspaces: Path) -> Row:
    """A turn of a session that lives, with one call of `bash`; bare: of a function."""
    client = await connect_client(setting.address)
    options = WorkerOptions(task_queue="bench-sandbox", sandbox=sandbox, workspaces=workspaces)
    async with SojournWorker(client, tools=[look_up], scripts=SANDBOX_SCRIPTS, options=options):
        runtime = (await Ours.make(client, options.task_queue)).runtime
        bash = AgentDefinition(name="bench bash", model=f"scripted:{BASH_SCRIPT}", tools=[AgentToolset()])
        function = AgentDefinition(name="bench function", model="scripted:turn", tools=["look_up"])
        talks = [Ours(runtime, await (await runtime.create(each)).get()).talk() for each in (bash, function)]
        for talk in talks:
            await talk.start()
        try:

            async def ours(number: int) -> None:
                await talks[0].turn()

            async def bare(number: int) -> None:
                await talks[1].turn()

            times = await _timed(setting, "turns", setting.pick(60, 15, 1), ours, bare)
        finally:
            for talk in talks:
                await talk.close()
            await runtime.close()
    return _row("a turn with a call of bash / of a function: p50 / p95", times)


async def _checkpoints(setting: Setting, folder: Path) -> list[Row]:
    """To and from a file of this machine; the object store comes on top."""
    kinds = (
        ("1,000 files of 1 KB", setting.pick(1000, 1000, 10), 1024, setting.pick(10, 3, 1)),
        ("100 MB in 100 files", setting.pick(100, 100, 2), 1024**2, setting.pick(5, 2, 1)),
    )
    return [
        row for what, files, size, rounds in kinds for row in await _bundled(setting, folder, what, files, size, rounds)
    ]


async def _bundled(setting: Setting, folder: Path, what: str, files: int, size: int, rounds: int) -> list[Row]:
    source, bundle = folder / f"source-{size}", folder / f"{size}.tar.gz"
    await asyncio.to_thread(_fill, source, files, size)

    def store() -> None:
        with bundle.open("wb") as file:
            pack({"workspace": source}, file, limit_bytes=_LIMIT, stop=Event())

    def restore(target: Path) -> None:
        target.mkdir()
        with bundle.open("rb") as file:
            unpack(file, {"workspace": target}, owner=None, stop=Event())

    async def stored(number: int) -> None:
        await asyncio.to_thread(store)

    async def restored(number: int) -> None:
        await asyncio.to_thread(restore, folder / f"restored-{size}-{number}")

    async def copied(number: int) -> None:
        await _process("cp", "-a", str(source), str(folder / f"copy-{size}-{number}"))

    async def copied_again(number: int) -> None:
        await _process("cp", "-a", str(source), str(folder / f"again-{size}-{number}"))

    saved = await _timed(setting, f"checkpoint of {what}", rounds, stored, copied)
    back = await _timed(setting, f"restore of {what}", rounds, restored, copied_again)
    for each in folder.glob(f"*-{size}-*"):  # noqa: ASYNC240 (nothing else runs here)
        await asyncio.to_thread(tree.remove, each)
    return [_row(f"checkpoint of {what}: p50 / p95", saved), _row("restore of it: p50 / p95", back)]


def _fill(folder: Path, files: int, size: int) -> None:
    """Half of it can be compressed, as with programs and what they make."""
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:04d}.bin").write_bytes(os.urandom(size // 2) + b"0123456789abcdef" * (size // 32))


Do = Callable[[int], Awaitable[None]]


async def _timed(setting: Setting, what: str, rounds: int, ours: Do, bare: Do) -> Times:
    """Both in turns; the first of each is left out."""
    setting.say(f"{what}, {rounds} rounds")
    times = Times([], [])
    for number in range(rounds + 1):
        order = [(ours, times.ours), (bare, times.bare)]
        for do, seconds in order if number % 2 == 0 else reversed(order):
            began = perf_counter()
            await do(number)
            seconds.append(perf_counter() - began)
    return Times(times.ours[1:], times.bare[1:])


def _row(
    what: str, times: Times, *, aim: str = "", met: bool | None = None, more: dict[str, float] | None = None
) -> Row:
    figures = {
        f"{name}_p{percent}": percentile(seconds, percent)
        for name, seconds in (("ours", times.ours), ("bare", times.bare))
        for percent in (50, 95)
    }
    ratio = figures["ours_p50"] / figures["bare_p50"]
    return Row(what, spread(times.ours), spread(times.bare), f"{ratio:.2f}", aim, met, figures | (more or {}))


async def _process(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} failed with exit code {process.returncode}")


@asynccontextmanager
async def _guest(sandbox: Sandbox, folder: Path) -> AsyncGenerator[Guest, None]:
    folder.mkdir()  # noqa: ASYNC240 (nothing else runs here)
    if sandbox.owner is not None:
        tree.give(folder, sandbox.owner)
    spec = SandboxSpec(key=f"bench-{folder.name}", mounts=(Mount(folder, WORKSPACE, writable=True),))
    guest = await Guest.start(sandbox, spec)
    try:
        yield guest
    finally:
        await guest.close()
