"""The way out of sandboxes, as the environment of each session allows it."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sojourn.activities.vault import VaultReader
from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress import Authority, EgressPolicy, EgressProxy, SecretVariable
from sojourn.sandbox.protocol import Mount
from sojourn.sandbox.registry import Registries
from sojourn.types.credential import LimitedHosts
from sojourn.types.environment import CloudConfig, LimitedNetwork
from sojourn.types.session import SessionInput

Variables = Callable[[SessionInput], Awaitable[Sequence[SecretVariable]]]
"""The secrets that a session's sandbox gets placeholders of."""


class OpenWay:
    """One sandbox's way out."""

    def __init__(self, socket: Path, env: Mapping[str, str], mounts: tuple[Mount, ...], stack: AsyncExitStack) -> None:
        self.socket = socket
        self.env = env
        self.mounts: Sequence[Mount] = mounts
        self._stack = stack

    async def close(self) -> None:
        """Shut it, and end all its connections. Safe to repeat."""
        await self._stack.aclose()


class Egress:
    """Makes the ways out of a worker's sandboxes.

    Args:
        folder: For sockets; short, since the path of a socket is at most about a hundred bytes long.
        authority: Makes the certificates for hosts that get secrets.
        private: Hosts that may have private addresses.
        registries: Where package managers get their packages.
        variables: The secrets of a session; ``None`` is none for anybody.
        isolates: Whether sandboxes see mounts, or the worker's own files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        authority: Authority,
        private: PrivateHosts,
        registries: Callable[[], Awaitable[Registries]],
        variables: Variables | None = None,
        isolates: bool = True,
    ) -> None:
        self._folder = folder
        self._authority = authority
        self._private = private
        self._registries = registries
        self._variables = variables
        self._isolates = isolates

    async def open(self, start: SessionInput, *, owner: tuple[int, int] | None) -> OpenWay | None:
        """See `Network`. A session without an environment has no network."""
        if not isinstance(start.sandbox, CloudConfig):
            return None
        network = start.sandbox.networking
        # Elsewhere package managers find their way by themselves.
        managed = isinstance(network, LimitedNetwork) and network.allow_package_managers
        registries = await self._registries() if managed else Registries()
        policy = EgressPolicy.of(
            network,
            mcp_servers=[each.url for each in start.agent.definition.mcp_servers],
            package_hosts=registries.hosts,
            private=self._private,
        )
        own = await self._variables(start) if self._variables is not None else ()
        secrets = (*own, *registries.secrets)
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
            seen = proxy.environment() if self._isolates else proxy.environment(ca_file=self._authority.bundle)
            mounts = (*proxy.ca_mounts, *registries.mounts) if self._isolates else ()
            return OpenWay(socket, {**registries.environment, **seen}, mounts, stack.pop_all())


def vault_variables(vaults: VaultReader) -> Variables:
    """The secrets of a session's vaults, for the proxy."""

    async def variables(start: SessionInput) -> Sequence[SecretVariable]:
        return [
            SecretVariable(
                each.name,
                each.placeholder,
                each.value.get_secret_value(),
                allowed_hosts=each.networking.allowed_hosts if isinstance(each.networking, LimitedHosts) else None,
                header=each.injection_location.header,
                body=each.injection_location.body,
            )
            for each in await vaults.variables(start)
        ]

    return variables
