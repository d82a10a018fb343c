"""Packages of environments: installed once, in a sandbox of their own, and shared read-only by sessions."""

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import platform
import shlex
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path, PurePath, PurePosixPath
from typing import Protocol

from pydantic import JsonValue

from sojourn.sandbox.address import NONE, PrivateHosts, Resolver, system_addresses
from sojourn.sandbox.egress import CA_FILE, Authority, EgressPolicy, EgressProxy
from sojourn.sandbox.protocol import PACKAGES, WORKSPACE, Mount, Sandbox, SandboxSpec
from sojourn.sandbox.registry import PACKAGE_HOSTS_VARIABLE, Registries, proxied
from sojourn.types.environment import Packages
from sojourn.types.error import SandboxError

_log = logging.getLogger("sojourn.sandbox")

_MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
_LONGEST = timedelta(minutes=10)
"""Of one package manager."""
_LENT = PurePosixPath("/run/sojourn/pip/pip")
_LOOK = timedelta(milliseconds=200)
_TOLD_LINES = 15
_TOLD_CHARACTERS = 2000

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Runner(Protocol):
    """What is used of a guest."""

    async def call(
        self, op: str, arguments: Mapping[str, JsonValue], *, progress: Callable[[str], None] | None = None
    ) -> Mapping[str, JsonValue]: ...

    async def close(self) -> None: ...


Start = Callable[[Sandbox, SandboxSpec], Awaitable[Runner]]
"""Starts a sandbox and gives its guest, as `Guest.start` does."""


@dataclass(frozen=True, slots=True)
class InstalledPackages:
    """The packages of an environment, ready to be used."""

    folder: Path | None = None
    """``None`` where the environment has no packages."""

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """What the sandbox needs to see."""
        return () if self.folder is None else (Mount(self.folder, PACKAGES),)

    def environment(self, *, path: str = _PATH, root: PurePath = PACKAGES) -> dict[str, str]:
        """Variables by which programs find the packages.

        Args:
            path: ``PATH`` without them.
            root: Where the sandbox sees the packages: ``folder`` itself where nothing is mounted.
        """
        return {} if self.folder is None else _variables(path, root)


class PackageStore:
    """Installs packages and keeps them, by kind of sandbox and content.

    Args:
        root: Folder of the worker; several workers may share it.
        sandbox: Where they are installed and used.
        start: Starts it.
        authority: Whose certificates sandboxes trust.
        private: Hosts that may have private addresses.
        path: ``PATH`` in the sandbox, where pip's Python and npm are found.
        registries: Where packages come from; asked for at the first installation by default.
        resolver: From names to addresses.
        trust: Whose certificates registries may have; the machine's by default.
    """

    def __init__(
        self,
        root: Path,
        sandbox: Sandbox,
        *,
        start: Start,
        authority: Authority,
        private: PrivateHosts = NONE,
        path: str = _PATH,
        registries: Registries | None = None,
        resolver: Resolver = system_addresses,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._root = root
        self._sandbox = sandbox
        self._start = start
        self._authority = authority
        self._private = private
        self._path = path
        self._registries = registries
        self._resolver = resolver
        self._trust = trust

    def refusal(self, packages: Packages) -> str | None:
        """Why these packages cannot be installed here, in one line; ``None`` if they can be tried."""
        can = self._sandbox.installs & _COMMANDS.keys()
        lacking = [name for name in _MANAGERS if getattr(packages, name) and name not in can]
        if not lacking:
            return None
        return (
            f"the {self._sandbox.name} sandbox cannot install packages of {' or '.join(lacking)}, but of"
            f" {' and '.join(sorted(can)) or 'no manager'}; leave them out of the environment's packages"
        )

    async def installed(
        self, packages: Packages, *, progress: Callable[[str], None] | None = None
    ) -> InstalledPackages:
        """Install what is not there yet. Of several at a time, one installs and the others wait for it.

        Raises:
            SandboxError: The sandbox cannot install them, or their manager failed; its last lines are in the text.
        """
        if not packages.count:
            return InstalledPackages()
        if (reason := self.refusal(packages)) is not None:
            raise SandboxError(reason)
        folder = self._root / f"{self._sandbox.name}-{_digest(packages)}"
        async with _held(folder.with_suffix(".lock")):
            if not _is_there(folder):
                await self._install(packages, folder, progress)
        return InstalledPackages(folder)

    async def registries(self) -> Registries:
        """Where packages come from."""
        if self._registries is None:
            self._registries = await Registries.ask()
        return self._registries

    async def _install(self, packages: Packages, folder: Path, progress: Callable[[str], None] | None) -> None:
        staged = folder.with_suffix(".new")
        # Left by a worker that was killed.
        await asyncio.to_thread(_remove, staged)
        try:
            _prepare(staged, self._sandbox.owner)
            await self._run(packages, staged, progress)
            (staged / "packages").rename(folder)
        finally:
            await asyncio.to_thread(_remove, staged)

    async def _run(self, packages: Packages, staged: Path, progress: Callable[[str], None] | None) -> None:
        registries = await self.registries()
        # Not below the root, whose path may be too long for a socket.
        with tempfile.TemporaryDirectory(prefix="sojourn-") as sockets:
            async with EgressProxy.open(
                Path(sockets) / "proxy.sock",
                EgressPolicy(registries.hosts),
                secrets=registries.secrets,
                private=self._private,
                authority=self._authority,
                owner=self._sandbox.owner,
                resolver=self._resolver,
                trust=self._trust,
            ) as proxy:
                spec = self._spec(staged, proxy, registries, Path(sockets) / "proxy.sock")
                guest = await self._start(self._sandbox, spec)
                try:
                    for name in _MANAGERS:
                        if wanted := getattr(packages, name):
                            await self._manage(guest, name, wanted, self._place(staged), registries, progress)
                finally:
                    await guest.close()

    def _place(self, staged: Path) -> PurePath:
        """Where the sandbox sees what is installed; what is not isolated sees folders where they are."""
        return PACKAGES if self._sandbox.isolates else staged / "packages"

    @property
    def _lent(self) -> PurePath | None:
        """Where the sandbox sees the worker's pip; ``None`` if the worker has none."""
        return _LENT if (own := _own_pip()) is not None and self._sandbox.isolates else own

    def _spec(self, staged: Path, proxy: EgressProxy, registries: Registries, socket: Path) -> SandboxSpec:
        home = WORKSPACE if self._sandbox.isolates else staged / "work"
        ca_file = CA_FILE if self._sandbox.isolates else self._authority.bundle
        env = {
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "LANG": "C.UTF-8",
            "npm_config_cache": str(home / "npm"),
            **proxy.environment(ca_file=ca_file),
            **registries.environment,
            **_variables(self._path, self._place(staged)),
        }
        # What is being installed must not be in the way of its own installer.
        del env["PYTHONPATH"]
        return SandboxSpec(
            key=f"packages-{staged.stem[-24:]}-{os.getpid()}",
            mounts=(
                Mount(staged / "work", WORKSPACE, writable=True),
                Mount(staged / "packages", PACKAGES, writable=True),
                *proxy.ca_mounts,
                *registries.mounts,
                *((Mount(own, _LENT),) if (own := _own_pip()) is not None else ()),
            ),
            env=env,
            proxy=socket,
        )

    async def _manage(
        self,
        guest: Runner,
        name: str,
        wanted: Sequence[str],
        place: PurePath,
        registries: Registries,
        progress: Callable[[str], None] | None,
    ) -> None:
        _log.info("installing %d packages of %s", len(wanted), name)
        arguments: dict[str, JsonValue] = {
            "argv": [*_COMMANDS[name](place, self._lent), *wanted],
            "timeout_seconds": _LONGEST.total_seconds(),
        }
        done = await guest.call("run", arguments, progress=progress)
        if done.get("exit_code") == 0:
            return
        reason = "took too long" if done.get("timed_out") else f"ended with status {done.get('exit_code')}"
        raise SandboxError(
            f"{name} {reason}: {_last_lines(done)} (it may reach {proxied(registries.hosts)};"
            f" more with {PACKAGE_HOSTS_VARIABLE})"
        )

    async def prune(self, *, unused_for: timedelta) -> int:
        """Remove what no session has asked for in so long; how many there were."""
        removed = 0
        for folder in list(self._root.glob(f"{self._sandbox.name}-*")) if self._root.is_dir() else ():
            if folder.suffix or time.time() - folder.stat().st_mtime < unused_for.total_seconds():
                continue
            async with _held(folder.with_suffix(".lock")):
                await asyncio.to_thread(_remove, folder)
                removed += 1
        return removed


def _pip(place: PurePath, lent: PurePath | None) -> list[str]:
    # The system's Python of Debian comes without pip; that of the worker is pure Python and serves any.
    run = f'python3 -m pip --version >/dev/null 2>&1 || exec python3 {shlex.quote(str(lent))} "$@"; ' if lent else ""
    command = ["sh", "-c", f'{run}exec python3 -m pip "$@"', "pip", "install", "--no-input", "--no-cache-dir"]
    return [*command, "--disable-pip-version-check", "--progress-bar=off", f"--target={place / 'pip'}", "--"]


def _npm(place: PurePath, lent: PurePath | None) -> list[str]:
    command = ["npm", "install", "--global", f"--prefix={place / 'npm'}", "--no-audit", "--no-fund"]
    return [*command, "--no-update-notifier", "--loglevel=error", "--"]


_COMMANDS: Mapping[str, Callable[[PurePath, PurePath | None], list[str]]] = {"npm": _npm, "pip": _pip}


def _own_pip() -> Path | None:
    found = find_spec("pip")
    return Path(found.origin).parent if found is not None and found.origin else None


def _variables(path: str, root: PurePath) -> dict[str, str]:
    return {
        "PATH": f"{root / 'npm' / 'bin'}:{root / 'pip' / 'bin'}:{path}",
        "PYTHONPATH": str(root / "pip"),
        "NODE_PATH": str(root / "npm" / "lib" / "node_modules"),
    }


def _digest(packages: Packages) -> str:
    """What the packages are: another Python, or another machine that shares the folder, needs others."""
    content = [packages.model_dump(mode="json"), platform.machine(), list(sys.version_info[:2])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _prepare(staged: Path, owner: tuple[int, int] | None) -> None:
    for folder in (staged, staged / "work", staged / "work" / "tmp", staged / "packages"):
        folder.mkdir(parents=True)
        if owner is not None:
            os.chown(folder, *owner)


def _is_there(folder: Path) -> bool:
    """Also notes that it is used."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _held(path: Path) -> AsyncGenerator[None, None]:
    """Hold a lock among all workers of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOOK.total_seconds())
        yield
    finally:
        os.close(descriptor)


def _last_lines(done: Mapping[str, JsonValue]) -> str:
    outputs = [output for name in ("stdout", "stderr") if isinstance(output := done.get(name), dict)]
    lines = [line.strip() for output in outputs for line in str(output.get("text", "")).splitlines() if line.strip()]
    return " | ".join(lines[-_TOLD_LINES:])[-_TOLD_CHARACTERS:] or "it wrote nothing"
