"""The proxy outside the sandbox: the one way out, which decides host by host."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePath, PurePosixPath

from sojourn.sandbox.address import NONE, PrivateHosts, Resolver, system_addresses
from sojourn.sandbox.egress.authority import Authority
from sojourn.sandbox.egress.connection import Connection
from sojourn.sandbox.egress.policy import EgressPolicy
from sojourn.sandbox.egress.secret import SecretVariable, environment_variables
from sojourn.sandbox.egress.stream import Stream
from sojourn.sandbox.protocol import PROXY_PORT, Mount
from sojourn.sandbox.trust import machine_trust
from sojourn.types.error import SandboxError

_log = logging.getLogger("sojourn.egress")

CA_FILE = PurePosixPath("/run/sojourn/ca-bundle.pem")
"""Where a sandbox finds the certificates that it is to trust."""

_CA_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "npm_config_cafile",
)
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy")
_OWN_HOSTS = "localhost,127.0.0.1,::1"
"""What programs in the sandbox serve to each other there."""

# The kernel's sun_path, with the zero at its end.
_LONGEST_PATH = 107


Renewal = Callable[[], Awaitable[Sequence[SecretVariable]]]
"""Gives the secrets as they are now. It must not fail, and be quick as a rule: connections wait for it."""


@dataclass(frozen=True, slots=True)
class EgressLimits:
    """Bounds of one proxy."""

    connections: int = 256
    """At a time; one more is refused."""
    lookups: int = 8
    """Names that are resolved at a time; more wait."""
    head: timedelta = timedelta(seconds=60)
    """How long a client may take until it has said what it wants, and a silent one may stay between requests."""
    connecting: timedelta = timedelta(seconds=30)
    idle: timedelta = timedelta(minutes=10)
    """How long nothing may flow in either direction."""


@dataclass
class EgressCount:
    """What a proxy has done so far."""

    allowed: int = 0
    refused: int = 0
    received_bytes: int = 0
    """From hosts."""
    sent_bytes: int = 0
    """To hosts."""


class EgressProxy:
    """Serves one sandbox, on a unix socket: HTTP CONNECT, and HTTP with whole URLs.

    Hosts that get a secret are spoken to in TLS by the proxy itself, so that it can put the values in; what sandboxes
    trust has to hold ``authority`` for that. Everything else passes as it is. Over plain HTTP no secret ever goes out.

    ``policy`` and ``secrets`` may be changed at any time; new connections and requests go by them.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        secrets: Sequence[SecretVariable] = (),
        private: PrivateHosts = NONE,
        authority: Authority | None = None,
        resolver: Resolver = system_addresses,
        limits: EgressLimits = EgressLimits(),
        trust: ssl.SSLContext | None = None,
        renewal: Renewal | None = None,
    ) -> None:
        if secrets and authority is None:
            raise ValueError("secrets need an authority, which the sandbox trusts")
        self.policy = policy
        self.secrets = tuple(secrets)
        self.private = private
        self.authority = authority
        self.resolver = resolver
        self.limits = limits
        self.trust = trust or machine_trust()
        self._renewal = renewal
        self.lookups = asyncio.Semaphore(limits.lookups)
        self.count = EgressCount()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        socket_path: Path,
        policy: EgressPolicy,
        *,
        secrets: Sequence[SecretVariable] = (),
        private: PrivateHosts = NONE,
        authority: Authority | None = None,
        owner: tuple[int, int] | None = None,
        resolver: Resolver = system_addresses,
        limits: EgressLimits = EgressLimits(),
        trust: ssl.SSLContext | None = None,
        renewal: Renewal | None = None,
    ) -> "AsyncGenerator[EgressProxy, None]":
        """Serve on a socket until the block ends; then all its connections end.

        Args:
            socket_path: Where; what is left there of an earlier run is replaced.
            policy: What may be reached.
            secrets: Whose placeholders the sandbox holds; they need ``authority``.
            private: Hosts that may have private addresses.
            authority: Makes the certificates for hosts that get secrets.
            owner: User and group that may connect besides the worker's own.
            resolver: From names to addresses.
            limits: Bounds.
            trust: Whose certificates the proxy accepts; the machine's by default.
            renewal: Asked for the secrets before each tunnel; with ``None`` they stay.

        Raises:
            SandboxError: The socket cannot be made.
        """
        proxy = cls(
            policy,
            secrets=secrets,
            private=private,
            authority=authority,
            resolver=resolver,
            limits=limits,
            trust=trust,
            renewal=renewal,
        )
        server = await _listening(proxy, socket_path, owner)
        try:
            yield proxy
        finally:
            server.close()
            await proxy._end()
            _remove(socket_path)

    def environment(self, *, ca_file: PurePath = CA_FILE) -> dict[str, str]:
        """Variables for the sandbox: the proxy, the certificates to trust, the placeholders of secrets.

        Args:
            ca_file: Where the sandbox sees the certificates: `Authority.bundle` itself where nothing is mounted.
        """
        variables = dict.fromkeys(_PROXY_VARIABLES, f"http://127.0.0.1:{PROXY_PORT}")
        variables |= {"NO_PROXY": _OWN_HOSTS, "no_proxy": _OWN_HOSTS}
        # Node.js goes by the variables above only if it is told to.
        variables["NODE_USE_ENV_PROXY"] = "1"
        if self.authority is not None:
            variables |= dict.fromkeys(_CA_VARIABLES, str(ca_file))
        return variables | environment_variables(self.secrets)

    @property
    def ca_mounts(self) -> tuple[Mount, ...]:
        """What the sandbox needs to see for that."""
        return () if self.authority is None else (Mount(self.authority.bundle, CA_FILE),)

    def secrets_for(self, host: str) -> tuple[SecretVariable, ...]:
        """Those that a host may get."""
        return tuple(each for each in self.secrets if each.goes_to(host))

    async def renew(self) -> None:
        """Bring the secrets up to date: one that was archived or changed must not go out any more."""
        if self._renewal is not None:
            self.secrets = tuple(await self._renewal())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        stream = Stream(reader, writer)
        if len(self._tasks) >= self.limits.connections:
            await stream.close(at_once=True)
            _log.warning("a sandbox has %d connections open; one more was refused", len(self._tasks))
            return
        self._tasks.add(task)
        # Ended by `_end`, and not reported by asyncio's own callback.
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await Connection(self, stream).serve()
            finally:
                self._tasks.discard(task)

    async def _end(self) -> None:
        while tasks := set(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _listening(proxy: EgressProxy, path: Path, owner: tuple[int, int] | None) -> asyncio.AbstractServer:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise SandboxError(
            f"the socket {str(path)!r} has a path of more than {_LONGEST_PATH} bytes; give the worker a shorter folder"
        )
    try:
        _remove(path)
        server = await asyncio.start_unix_server(proxy._accept, path)
        _give(path, owner)
    except OSError as error:
        raise SandboxError(f"no socket for a sandbox's way out at {str(path)!r}: {error}") from None
    return server


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _give(path: Path, owner: tuple[int, int] | None) -> None:
    path.chmod(0o600)
    if owner is not None:
        os.chown(path, *owner)
