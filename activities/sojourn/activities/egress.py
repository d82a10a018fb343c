"""The way out of sandboxes, as the environment of each session allows it."""

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sojourn.activities.sealed import explained
from sojourn.activities.vault import VaultReader
from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress import Authority, EgressPolicy, EgressProxy, SecretVariable
from sojourn.sandbox.protocol import Mount
from sojourn.sandbox.registry import Registries
from sojourn.types.credential import LimitedHosts
from sojourn.types.environment import CloudConfig, LimitedNetwork
from sojourn.types.session import SessionInput
from sojourn.types.vault_error import VaultUnavailableError

logger = logging.getLogger("sojourn.activities")

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
        own = None if self._variables is None else _Own(self._variables, start)
        secrets = (*(await own.first() if own else ()), *registries.secrets)

        async def renewal() -> Sequence[SecretVariable]:
            return (*(await own.now() if own else ()), *registries.secrets)

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
                    renewal=renewal if own and own.last else None,
                )
            )
            seen = proxy.environment() if self._isolates else proxy.environment(ca_file=self._authority.bundle)
            mounts = (*proxy.ca_mounts, *registries.mounts) if self._isolates else ()
            return OpenWay(socket, {**registries.environment, **seen}, mounts, stack.pop_all())


class _Own:
    """A session's own secrets, as last read."""

    def __init__(self, variables: Variables, start: SessionInput) -> None:
        self._variables = variables
        self._start = start
        self.last: Sequence[SecretVariable] = ()

    async def first(self) -> Sequence[SecretVariable]:
        """Read them; raises what reading them does."""
        self.last = await self._variables(self._start)
        return self.last

    async def now(self) -> Sequence[SecretVariable]:
        """Read them again; while their vault cannot be read they are as they were."""
        try:
            return await self.first()
        except VaultUnavailableError as error:
            session_id = self._start.session_id
            logger.warning("secrets stay as they were: %s", explained(error), extra={"session_id": session_id})
            return self.last


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
