"""The way out of sandboxes, as the environment of each session allows it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress import AllowedHost, Authority, EgressPolicy, EgressProxy, SecretVariable
from sojourn.types.environment import CloudConfig
from sojourn.types.session import SessionInput

Variables = Callable[[SessionInput], Awaitable[Sequence[SecretVariable]]]
"""The secrets that a session's sandbox gets placeholders of."""


class OpenWay:
    """One sandbox's way out."""

    def __init__(self, proxy: EgressProxy, socket: Path, stack: AsyncExitStack, *, inside: bool) -> None:
        self.socket = socket
        bundle = proxy.authority.bundle if proxy.authority is not None else None
        # What does not isolate has no mounts either: programs read the file where it is.
        self.env: Mapping[str, str] = (
            proxy.environment() if inside or bundle is None else proxy.environment(ca_file=bundle)
        )
        self.mounts = proxy.ca_mounts() if inside else ()
        self._stack = stack

    async def close(self) -> None:
        """Shut it, and end all its connections. Safe to repeat."""
        await self._stack.aclose()


class Egress:
    """Makes the ways out of a worker's sandboxes.

    Args:
        folder: For sockets; short, since the path of a socket is at most about a hundred bytes long.
        private: Hosts that may have private addresses.
        package_hosts: Registries of package managers.
        variables: The secrets of a session; ``None`` is none for anybody.
        inside: Whether sandboxes see mounts, or the worker's own files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        private: PrivateHosts,
        package_hosts: Sequence[AllowedHost] = (),
        variables: Variables | None = None,
        inside: bool = True,
    ) -> None:
        self._folder = folder
        self._private = private
        self._package_hosts = package_hosts
        self._variables = variables
        self._inside = inside
        self._authority: Authority | None = None

    async def open(self, start: SessionInput, *, owner: tuple[int, int] | None) -> OpenWay | None:
        """See `Network`. A session without an environment has no network."""
        if not isinstance(start.sandbox, CloudConfig):
            return None
        policy = EgressPolicy.of(
            start.sandbox.networking,
            mcp_servers=[each.url for each in start.agent.definition.mcp_servers],
            package_hosts=self._package_hosts,
            private=self._private,
        )
        secrets = await self._variables(start) if self._variables is not None else ()
        if secrets and self._authority is None:
            self._authority = await asyncio.to_thread(Authority, self._folder)
        socket = self._folder / f"{uuid.uuid4().hex[:12]}.sock"
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(
                EgressProxy.open(
                    socket,
                    policy,
                    secrets=secrets,
                    private=self._private,
                    authority=self._authority if secrets else None,
                    owner=owner,
                )
            )
            return OpenWay(proxy, socket, stack.pop_all(), inside=self._inside)
