"""Cloning repositories with git, on the worker and outside the sandbox, so that no token ever enters that.

The server is not trusted, nor is what is in the repository: git gets an environment of its own without configuration,
credential helpers, hooks, submodules, proxies and redirects, speaks HTTPS alone, and connects to addresses that were
judged before. The token is in the environment of git and nowhere else.
"""

import asyncio
import base64
import os
import re
import shutil
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sojourn.sandbox.address import NONE, AddressRefusedError, PrivateHosts, public_addresses
from sojourn.types.resource import BranchCheckout, Checkout, CommitCheckout

Fault = Literal["authentication", "forbidden", "not_found", "checkout", "clone"]

_KEPT = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "TMPDIR")
"""What of the worker's environment git gets: where programs are, and which certificates to trust."""

_TAIL_BYTES = 32 * 1024
_LOOK_SECONDS = 0.5
_OLDEST = (2, 37)
"""The first git that connects to addresses it is told (``http.curloptResolve``)."""

_FAULTS: tuple[tuple[str, Fault], ...] = (
    (r"returned error: 403|access denied|permission to \S+ denied|not permitted", "forbidden"),
    (r"could not read Username|could not read Password|Authentication failed|returned error: 401", "authentication"),
    (r"repository '?\S* ?not found|returned error: 404|Repository not found", "not_found"),
    (
        r"Remote branch .* not found|couldn't find remote ref|not our ref|reference is not a tree|unable to read tree"
        r"|pathspec .* did not match|unable to checkout|ambiguous argument|bad object|unadvertised object",
        "checkout",
    ),
)


class CloneError(Exception):
    """A repository could not be cloned. The text is fit for everybody: it holds no credentials."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


class _TooLargeError(Exception):
    """There is more than the limit."""


@dataclass(frozen=True, slots=True)
class CloneLimits:
    """Bounds of one clone."""

    size_bytes: int = 4 * 1024**3
    """On disk. A history that is larger is left out, and past that the clone fails."""
    time: timedelta = timedelta(minutes=10)


DEFAULT_LIMITS = CloneLimits()


@dataclass(frozen=True)
class Source:
    """What is to be cloned."""

    url: str
    checkout: Checkout | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"Source({self.url!r})"


async def clone(
    source: Source,
    scratch: Path,
    *,
    private: PrivateHosts = NONE,
    limits: CloneLimits = DEFAULT_LIMITS,
    report: Callable[[str], None] = lambda text: None,
) -> Path:
    """Clone a repository. What was begun is gone when this fails or is cancelled.

    Args:
        source: What.
        scratch: An empty folder that nobody else writes to; what is returned lies in it.
        private: Hosts that may have private addresses, and be spoken to without encryption.
        limits: Bounds of size and time.
        report: Hears how far it is.

    Raises:
        CloneError: It could not be cloned.
    """
    await _check_git()
    git = _Git(scratch, await _environment(source, scratch, private), limits)
    try:
        async with asyncio.timeout(limits.time.total_seconds()):
            report(f"cloning {source.url}")
            try:
                return await git.clone(source, whole=True)
            except _TooLargeError:
                await asyncio.to_thread(shutil.rmtree, git.target, ignore_errors=True)
                report(f"cloning {source.url} without its history")
                return await git.clone(source, whole=False)
    except _TooLargeError:
        raise CloneError("clone", f"it has more than {limits.size_bytes:,} bytes, the limit of the worker") from None
    except TimeoutError:
        raise CloneError("clone", f"it took longer than {limits.time.total_seconds():g} s") from None


class _Git:
    """Runs git for one clone."""

    def __init__(self, scratch: Path, env: Mapping[str, str], limits: CloneLimits) -> None:
        self.target = scratch / "repository"
        self._scratch = scratch
        self._env = env
        self._limits = limits

    async def clone(self, source: Source, *, whole: bool) -> Path:
        branch = ["--branch", source.checkout.name] if isinstance(source.checkout, BranchCheckout) else []
        depth = [] if whole else ["--depth", "1"]
        await self._run(
            *("clone", "--quiet", "--no-checkout", "--no-recurse-submodules", "--template="),
            *(*branch, *depth, "--", source.url, str(self.target)),
        )
        if isinstance(source.checkout, CommitCheckout):
            await self._check_out_commit(source.checkout.sha)
        elif await self._answers("rev-parse", "--verify", "--quiet", "HEAD"):
            await self._in("checkout", "--quiet", "--force")
        return self.target

    async def _check_out_commit(self, sha: str) -> None:
        try:
            if not await self._answers("rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}"):
                # One that no branch leads to, or whose history was left out.
                await self._in("fetch", "--quiet", "--depth", "1", "origin", sha)
            await self._in("-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", "--detach", sha)
        except CloneError as error:
            # The repository is there: it is the commit that cannot be had.
            raise CloneError("checkout", f"commit {sha!r} cannot be checked out: {error}") from None

    async def _in(self, *arguments: str) -> None:
        await self._run("-C", str(self.target), *arguments)

    async def _answers(self, *arguments: str) -> bool:
        try:
            await self._in(*arguments)
        except CloneError:
            return False
        return True

    async def _run(self, *arguments: str) -> None:
        async with _started(("git", *arguments), self._env, cwd=self._scratch) as process:
            said = asyncio.create_task(_tail(process))
            watching = asyncio.create_task(self._watch())
            try:
                done, _ = await asyncio.wait({said, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching in done:
                    watching.result()
                told = await said
                code = await process.wait()
            finally:
                for task in (said, watching):
                    task.cancel()
                await asyncio.wait({said, watching})
        if code != 0:
            raise _failure(told)
        await self._check_size()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._check_size()

    async def _check_size(self) -> None:
        if await asyncio.to_thread(_size, self._scratch) > self._limits.size_bytes:
            raise _TooLargeError


@asynccontextmanager
async def _started(
    argv: Sequence[str], env: Mapping[str, str], *, cwd: Path
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """A process while the block runs; it and all that it has started are gone afterwards."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CloneError("clone", "the worker has no git; install it there") from None
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _tail(process: asyncio.subprocess.Process) -> str:
    """The end of what the process says, once it has said all."""
    assert process.stderr is not None
    told = b""
    while chunk := await process.stderr.read(_TAIL_BYTES):
        told = (told + chunk)[-_TAIL_BYTES:]
    return told.decode("utf-8", "replace")


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def _fault(told: str) -> Fault:
    for pattern, fault in _FAULTS:
        if re.search(pattern, told, re.IGNORECASE):
            return fault
    return "clone"


def _failure(told: str) -> CloneError:
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    last = (fatal or lines or ["git failed"])[-1].removeprefix("fatal: ").removeprefix("error: ")
    text = "".join(each if each.isprintable() else " " for each in last)[:300]
    if re.search(r"returned error: 30\d|unable to update url base", told):
        text += "; redirects are not followed, write the address that it leads to"
    return CloneError(_fault(told), text)


async def _environment(source: Source, scratch: Path, private: PrivateHosts) -> dict[str, str]:
    """All variables that git gets."""
    parts = urlsplit(source.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = await public_addresses(host, port, private=private)
    except AddressRefusedError as error:
        raise CloneError("clone", str(error)) from None
    except (OSError, TimeoutError) as error:
        raise CloneError("clone", f"{host!r} cannot be found: {error}"[:300]) from None
    # Named by the operator, or encrypted.
    if parts.scheme != "https" and not private.has(host.rstrip("."), port):
        raise CloneError("clone", "only https:// addresses are cloned from")
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    config = _config(parts.scheme, parts.netloc, f"{host}:{port}:{_listed(addresses)}", source.token)
    numbered = enumerate(config)
    return {
        **{name: value for name in _KEPT if (value := os.environ.get(name))},
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_CEILING_DIRECTORIES": str(scratch),
        "GIT_CONFIG_COUNT": str(len(config)),
        **{
            name: text
            for place, (key, value) in numbered
            for name, text in ((f"GIT_CONFIG_KEY_{place}", key), (f"GIT_CONFIG_VALUE_{place}", value))
        },
    }


def _config(scheme: str, netloc: str, resolved: str, token: str | None) -> list[tuple[str, str]]:
    config = [
        ("protocol.allow", "never"),
        (f"protocol.{scheme}.allow", "always"),
        ("http.followRedirects", "false"),
        ("http.curloptResolve", resolved),
        ("http.proxy", ""),
        ("http.lowSpeedLimit", "100"),
        ("http.lowSpeedTime", "60"),
        ("credential.helper", ""),
        ("core.hooksPath", os.devnull),
        ("core.fsmonitor", "false"),
        ("submodule.recurse", "false"),
        ("fetch.recurseSubmodules", "false"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
    ]
    if token is not None:
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        config.append((f"http.{scheme}://{netloc}/.extraHeader", f"Authorization: Basic {basic}"))
    return config


def _listed(addresses: Sequence[str]) -> str:
    return ",".join(f"[{each}]" if ":" in each else each for each in addresses)


async def _check_git() -> None:
    """Raise if there is no git that connects where it is told.

    Raises:
        CloneError: There is none.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "git", "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise CloneError("clone", "the worker has no git; install it there") from None
    told, _ = await process.communicate()
    found = re.search(rb"(\d+)\.(\d+)", told)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        raise CloneError("clone", f"the worker's git is too old; it takes {'.'.join(map(str, _OLDEST))} or newer")
