"""A sandbox of Linux namespaces, made by bubblewrap: each has its own files, processes, users and network."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

from sojourn.sandbox import view
from sojourn.sandbox.child import Child, Program
from sojourn.sandbox.protocol import WORKSPACE, Mount, SandboxLimits, SandboxSpec
from sojourn.sandbox.seccomp import supported, system_call_filter
from sojourn.sandbox.usage import Meter, overflow
from sojourn.types import SandboxError

GUEST = Path(__file__).parent / "guest"
"""The guest that sandboxes start, unless told otherwise."""
OWNER = 60700
"""User and group of sandboxes where the worker is root: no distribution gives this number to anybody."""

_OLDEST = (0, 8, 0)
"""The first bubblewrap that forbids user namespaces inside."""
_PATIENCE = timedelta(seconds=30)
_STAGE = Path("/tmp")

_NEEDED = {"bwrap": "bubblewrap", "bash": "bash", "setpriv": "util-linux"}

# It waits until its memory was looked at, so that it is there to be looked at.
_PROBE = """
import os, sys
input()
for name in os.listdir(sys.argv[1]):
    if name.endswith(".py"):
        open(os.path.join(sys.argv[1], name)).close()
"""

# Limits of processes count from inside only this sandbox. Short of memory, the kernel ends a sandbox before a worker.
_BEGIN = """
echo 800 > /proc/self/oom_score_adj 2>/dev/null
ulimit -c 0 && ulimit -u {limits.processes} && ulimit -n {limits.open_files} && ulimit -f {blocks} || exit 1
for name in ${{!{later}@}}; do export "${{name#{later}}}=${{!name}}"; unset "$name"; done
echo up >&{up} && exec {up}>&- && exec "$@"
"""


class BubblewrapSandbox:
    """Sandboxes that see a read-only system, their own folders and no network.

    Where the worker is root, they run as another, unprivileged user: files for them must belong to `owner`.

    Args:
        guest: Folder of the guest; its ``__main__.py`` is started.
        owner: User and group of sandboxes where the worker is root; never 0.
    """

    name = "bubblewrap"
    isolates = True
    installs: frozenset[str] = frozenset({"npm", "pip"})

    def __init__(self, *, guest: Path = GUEST, owner: int = OWNER) -> None:
        if owner == 0:
            raise ValueError("a sandbox does not run as root; give owner= another user")
        self._guest = guest
        self.owner: tuple[int, int] | None = (owner, owner) if os.geteuid() == 0 else None

    async def check(self) -> None:
        await _check_tools()
        with tempfile.TemporaryDirectory(prefix="sojourn-check-") as folder:
            if self.owner is not None:
                os.chown(folder, *self.owner)
            spec = SandboxSpec(key="check", mounts=(Mount(Path(folder), WORKSPACE, writable=True),))
            sandbox = await self.run(spec, (*_python(), "-c", _PROBE, str(view.GUEST)))
            try:
                if await asyncio.to_thread(sandbox.meter.count) == 0:
                    raise SandboxError("the memory of a sandbox cannot be seen here; give the worker its own /proc")
                sandbox.stdin.write(b"\n")
                async with asyncio.timeout(_PATIENCE.total_seconds()):
                    ended = await sandbox.wait()
            finally:
                await sandbox.kill()
        if ended != "its program ended with status 0":
            raise SandboxError(f"the worker's Python {str(view.interpreter())!r} does not run in a sandbox: {ended}")

    async def start(self, spec: SandboxSpec) -> "BubblewrapProcess":
        if not (self._guest / "__main__.py").is_file():
            raise SandboxError(f"there is no guest in {str(self._guest)!r}; install sojourn again")
        return await self.run(spec, (*_python(), str(view.GUEST / "__main__.py")))

    async def run(self, spec: SandboxSpec, command: Sequence[str]) -> "BubblewrapProcess":
        """Start a sandbox with another program than the guest."""
        view.check_mounts(spec)
        with ExitStack() as ours:
            with ExitStack() as theirs:
                info, told = _pipe(ours, theirs)
                started, up = _pipe(ours, theirs)
                inherited = _Inherited(theirs, told, up)
                place, lift = self._lift(spec, told)
                arguments = inherited.give("\0".join(_arguments(spec, self._guest, place, inherited)))
                inner = ("--args", str(arguments), "--", *_begin(spec.limits, up), *command)
                # None of the worker's variables: the first process of a sandbox keeps what bubblewrap began with.
                program = await Program.start((*lift, *inner), env={}, pass_fds=inherited.descriptors, folder=Path("/"))
            layers = 1 if self.owner is None else 2
            return await _settled(program, info, started, layers, spec.limits)

    def _lift(self, spec: SandboxSpec, told: int) -> tuple[view.Place, tuple[str, ...]]:
        """Where bubblewrap finds what it mounts, and its command without the arguments of the sandbox.

        Root starts it as another user, who finds folders that only root can get at under `_STAGE`: an outer bubblewrap,
        in whose view nothing else is different, puts them there. It has a namespace of processes around the sandbox,
        which ends with the worker. The signal that does so otherwise would not be allowed from root to another user.
        """
        bwrap = (_found("bwrap"), "--die-with-parent")
        if self.owner is None:
            return (lambda path: path), (*bwrap, "--info-fd", str(told))
        sources = dict.fromkeys(view.sources(spec, self._guest))
        places = {source: _STAGE / str(index) for index, source in enumerate(sources)}
        binds = [word for source, staged in places.items() for word in ("--bind", str(source), str(staged))]
        outer = ("--info-fd", str(told), "--unshare-pid", "--dev-bind", "/", "/", "--tmpfs", str(_STAGE), *binds)
        user, group = (str(each) for each in self.owner)
        drop = (_found("setpriv"), "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs")
        return places.__getitem__, (*bwrap, *outer, "--", *drop, "--bounding-set=-all", "--", *bwrap)


class BubblewrapProcess(Child):
    """A running sandbox.

    Args:
        first: First process of the outermost namespace of processes; nothing in it outlives this one.
        init: First process in the sandbox's own namespace, the same or deeper.
        handle: Descriptor of ``first``, which is closed at the end.
    """

    def __init__(self, program: Program, first: int, init: int, handle: int) -> None:
        self.init = init
        self.meter = Meter.of_namespace(init)
        self._first = first
        self._handle: int | None = handle
        super().__init__(program, self._kill)

    async def _kill(self) -> None:
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        await _readable(handle)
        os.close(handle)
        _bury(self._first)


def _bury(pid: int) -> None:
    """Needed where bubblewrap ended before it, and the worker is the first process of a container: then it is ours."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class _Inherited:
    """What bubblewrap gets as open files: texts in them show in no list of processes."""

    def __init__(self, stack: ExitStack, *descriptors: int) -> None:
        self.descriptors = list(descriptors)
        self._stack = stack

    def give(self, content: str | bytes) -> int:
        descriptor = os.memfd_create("sojourn")
        self._stack.callback(os.close, descriptor)
        self.descriptors.append(descriptor)
        os.write(descriptor, content.encode() if isinstance(content, str) else content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor


def _arguments(spec: SandboxSpec, guest: Path, place: view.Place, inherited: _Inherited) -> Iterator[str]:
    yield from ("--unshare-all", "--unshare-user", "--disable-userns", "--uid", str(view.UID), "--gid", str(view.UID))
    yield from ("--hostname", "sandbox", "--new-session", "--cap-drop", "ALL")
    yield from ("--seccomp", str(inherited.give(system_call_filter())))
    yield from view.system(place)
    yield from view.own(temporary_bytes=spec.limits.memory_bytes // 4)
    for path, content in view.ACCOUNTS.items():
        yield from ("--perms", "0444", "--file", str(inherited.give(content)), path)
    yield from view.mounts(spec, guest, place)
    yield from view.variables(spec)
    yield from ("--chdir", str(spec.working_dir))


def _begin(limits: SandboxLimits, up: int) -> tuple[str, ...]:
    """Sets limits, says on a descriptor that everything is in place, and goes on as the program itself."""
    script = _BEGIN.format(limits=limits, blocks=limits.file_bytes // 1024, up=up, later=view.LATER)
    # -p: nothing in the variables makes it run something else first.
    return ("/bin/bash", "-p", "-c", script, "sandbox")


async def _settled(program: Program, info: int, started: int, layers: int, limits: SandboxLimits) -> BubblewrapProcess:
    """The sandbox, as soon as it is complete; an error, if that does not come about."""
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            told = await _read(info, b"}")
            if not told or not await _read(started, b"\n"):
                raise SandboxError(f"bubblewrap made no sandbox: {await program.complaint()}{_hint()}")
        first = int(json.loads(told)["child-pid"])
        handle = os.pidfd_open(first)
        try:
            sandbox = BubblewrapProcess(program, first, _innermost(first, layers), handle)
        except BaseException:
            os.close(handle)
            raise
    except BaseException as error:
        program.kill()
        program.transport.close()
        if isinstance(error, TimeoutError | ProcessLookupError):
            raise SandboxError("bubblewrap did not come up; the machine may be too busy, try again") from error
        raise
    sandbox.end_after(overflow(sandbox.meter, limits.memory_bytes))
    return sandbox


def _innermost(first: int, layers: int) -> int:
    """The first process of the innermost of some namespaces, the outermost of which begins with ``first``.

    Raises:
        ProcessLookupError: The sandbox has ended meanwhile.
    """
    at, depth = first, len(_numbers(first)) + layers - 1
    while len(_numbers(at)) < depth:
        children = _children(at)
        if not children:
            raise ProcessLookupError(at)
        at = children[0]
    return at


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path("/proc", str(pid), "task", str(pid), "children").read_text().split()]
    except OSError as error:
        raise ProcessLookupError(pid) from error


def _numbers(pid: int) -> list[int]:
    """A process's numbers, from the machine's to that in its own namespace."""
    try:
        lines = Path("/proc", str(pid), "status").read_text().splitlines()
    except OSError as error:
        raise ProcessLookupError(pid) from error
    return next([int(each) for each in line.split()[1:]] for line in lines if line.startswith("NSpid:"))


async def _check_tools() -> None:
    """Raise unless all programs are there, and new enough."""
    if sys.platform != "linux" or not supported():
        raise SandboxError("bubblewrap needs Linux on x86-64 or arm64; use the sandbox 'docker' or 'local'")
    for tool, package in _NEEDED.items():
        if shutil.which(tool) is None:
            raise SandboxError(f"there is no {tool!r} on PATH; install the package {package!r}")
    program = await Program.start((_found("bwrap"), "--version"), env={})
    told = (await program.stdout.read()).decode(errors="replace").strip()
    # Closed any sooner, asyncio would wait for a process that its own poll has taken away, and warn of it.
    await program.exited.wait()
    program.transport.close()
    version = told.rpartition(" ")[2]
    if tuple(int(each) for each in version.split(".") if each.isdigit()) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise SandboxError(f"bubblewrap {version!r} is too old; install {oldest} or newer")


def _hint() -> str:
    """The usual reason why namespaces are refused, where it can be told."""
    settings = {
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
        "/proc/sys/kernel/unprivileged_userns_clone": "0",
        "/proc/sys/user/max_user_namespaces": "0",
    }
    for path, bad in settings.items():
        with suppress(OSError):
            if Path(path).read_text().strip() == bad:
                return f" (the machine forbids user namespaces: {path} is {bad})"
    return ""


def _found(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise SandboxError(f"there is no {tool!r} on PATH; install the package {_NEEDED[tool]!r}")
    return path


def _python() -> tuple[str, ...]:
    return (str(view.interpreter()), "-I", "-B")


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """A pipe to read from, and its other end for bubblewrap."""
    reading, writing = os.pipe()
    ours.callback(os.close, reading)
    theirs.callback(os.close, writing)
    return reading, writing


async def _read(descriptor: int, end: bytes) -> bytes:
    """Read up to ``end``; nothing if it never comes."""
    content = b""
    while end not in content:
        await _readable(descriptor)
        chunk = os.read(descriptor, 4096)
        if not chunk:
            return b""
        content += chunk
    return content


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read, or, for a process, until it has ended."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
