"""Environments: what a session's sandbox may reach and what is installed in it (Managed Agents API §1.2).

Not versioned: a change holds for the sessions that begin after it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from sojourn.types.error import InvalidRequestError
from sojourn.types.id import EnvironmentId
from sojourn.types.wire import Metadata, Wire

MAX_PACKAGES = 256
"""In all. An environment is kept in a workflow's memo, which the server stores with every entry of a list."""

DELETION = timedelta(minutes=1)
"""How long a deletion that was begun holds new sessions off; one that is cut off lets go of the environment then."""


@dataclass(frozen=True)
class _Shape:
    """Marks a text that has to look like something, with words for people whose text does not."""

    pattern: str
    told: str

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{text[:80]!r} is {self.told}")
        return text


_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = _Shape(rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$", "no host; write a bare name such as example.com or *.example.com")
# What begins with a dash would be an option of the package manager.
_PACKAGE = _Shape(r"^[!-,.-~][!-~]*$", "no package; write its name, and its version as the package manager does")

Hosts = Annotated[tuple[Annotated[str, Field(max_length=253), _HOST], ...], Field(max_length=256)]
PackageList = Annotated[tuple[Annotated[str, Field(max_length=256), _PACKAGE], ...], Field(max_length=MAX_PACKAGES)]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")]
Description = Annotated[str, Field(max_length=2048)]

Visibility = Literal["organization"]
"""Who sees an environment: all of its workspace. The API's ``account`` is for personal accounts, which we have not."""


class UnrestrictedNetwork(Wire):
    """The sandbox reaches everything."""

    type: Literal["unrestricted"] = "unrestricted"


class LimitedNetwork(Wire):
    """The sandbox reaches what is named."""

    type: Literal["limited"] = "limited"
    allowed_hosts: Hosts = ()
    """Bare hosts, or ``*.example.com`` for all below one."""
    allow_mcp_servers: bool = False
    """The agent's MCP servers as well."""
    allow_package_managers: bool = False
    """The public registries of package managers as well."""


class Packages(Wire):
    """What is installed, by package manager, in their alphabetical order."""

    type: Literal["packages"] = "packages"
    apt: PackageList = ()
    cargo: PackageList = ()
    gem: PackageList = ()
    go: PackageList = ()
    npm: PackageList = ()
    pip: PackageList = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, (self.apt, self.cargo, self.gem, self.go, self.npm, self.pip)))

    @model_validator(mode="after")
    def _few(self) -> Self:
        if self.count > MAX_PACKAGES:
            raise ValueError(f"{self.count} packages; an environment holds up to {MAX_PACKAGES}")
        return self


class CloudConfig(Wire):
    """A sandbox beside the worker."""

    type: Literal["cloud"] = "cloud"
    networking: Annotated[UnrestrictedNetwork | LimitedNetwork, Field(discriminator="type")] = UnrestrictedNetwork()
    packages: Packages = Packages()

    @model_validator(mode="after")
    def _installable(self) -> Self:
        limited = isinstance(self.networking, LimitedNetwork) and not self.networking.allow_package_managers
        if limited and self.packages.count:
            raise ValueError("packages under limited networking need networking.allow_package_managers to be true")
        return self


class SelfHostedConfig(Wire):
    """Sandboxes that the user runs, which fetch their work from a queue."""

    type: Literal["self_hosted"] = "self_hosted"


SandboxConfig = Annotated[CloudConfig | SelfHostedConfig, Field(discriminator="type")]


class EnvironmentDefinition(Wire):
    """A new environment."""

    name: Name
    """Unique among those of the workspace that are not archived."""
    description: Description | None = None
    config: SandboxConfig = CloudConfig()
    metadata: Metadata = {}
    scope: Visibility = "organization"


class Environment(EnvironmentDefinition):
    """An environment as stored."""

    id: EnvironmentId
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None


class Patch(Wire):
    """Only the fields that were given count, and travel: ``None`` says something else than nothing."""

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


class LimitedNetworkChange(Patch):
    """What is left out, or ``None``, stays as it is if the networking was limited before."""

    type: Literal["limited"]
    allowed_hosts: Hosts | None = None
    allow_mcp_servers: bool | None = None
    allow_package_managers: bool | None = None


class CloudConfigChange(Patch):
    """What is left out, or ``None``, stays."""

    type: Literal["cloud"]
    networking: Annotated[UnrestrictedNetwork | LimitedNetworkChange, Field(discriminator="type")] | None = None
    packages: Packages | None = None


ConfigChange = Annotated[CloudConfigChange | SelfHostedConfig, Field(discriminator="type")]


class EnvironmentChange(Patch):
    """A change to an environment. What is left out stays."""

    name: Name | None = None
    """``None`` leaves it."""
    description: Description | None = None
    """``None`` removes it."""
    config: ConfigChange | None = None
    """``None`` leaves it. The type cannot change."""
    metadata: dict[str, str | None] | None = None
    """A merge patch: ``None`` or an empty text removes the key."""
    scope: Visibility | None = None

    def applied(self, environment: Environment) -> Environment:
        """The environment after the change; the same one if nothing differs. Its times are not touched.

        Raises:
            InvalidRequestError: The result would be none.
        """
        changes: dict[str, object] = {}
        if self.name is not None:
            changes["name"] = self.name
        if "description" in self.model_fields_set:
            changes["description"] = self.description
        if self.config is not None:
            changes["config"] = _merged(environment.config, self.config)
        if self.metadata:
            changes["metadata"] = _patched(environment.metadata, self.metadata)
        return environment.model_copy(update=changes)


def _merged(config: SandboxConfig, change: ConfigChange) -> SandboxConfig:
    if config.type != change.type:
        raise InvalidRequestError(
            f"config.type: is {config.type!r} and cannot change; create another environment",
            param="config.type",
            code="invalid_config_type_change",
        )
    if not isinstance(config, CloudConfig) or not isinstance(change, CloudConfigChange):
        return config
    networking = config.networking if change.networking is None else _networking(config.networking, change.networking)
    try:
        return CloudConfig(networking=networking, packages=change.packages or config.packages)
    except ValidationError as error:
        raise InvalidRequestError.from_validation(error, whole="config") from None


def _networking(
    network: UnrestrictedNetwork | LimitedNetwork, change: UnrestrictedNetwork | LimitedNetworkChange
) -> UnrestrictedNetwork | LimitedNetwork:
    if isinstance(change, UnrestrictedNetwork):
        return change
    before = network if isinstance(network, LimitedNetwork) else LimitedNetwork()
    given = {name: value for name in change.model_fields_set if (value := getattr(change, name)) is not None}
    return before.model_copy(update=given)


_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(Metadata)


def _patched(metadata: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**metadata, **patch}
    kept = {key: value for key, value in merged.items() if value}
    try:
        return _METADATA.validate_python(kept)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(("metadata", *map(str, first["loc"])))
        raise InvalidRequestError(
            f"{path}: {first['msg'][:1].lower()}{first['msg'][1:]}", param=path, code="invalid_metadata"
        ) from None


class EnvironmentInput(Wire):
    """What an `EnvironmentWorkflow` run starts from."""

    workspace: str
    environment: Environment
    deleting_at: datetime | None = None


class EnvironmentMemo(Wire):
    """What an environment's workflow shows, so that it can be read without a worker."""

    environment: Environment
    deleting_at: datetime | None = None
    """When a deletion began that has not been called off."""

    def is_held(self, now: datetime) -> bool:
        """Whether a deletion holds new sessions off."""
        return self.deleting_at is not None and now < self.deleting_at + DELETION


class EnvironmentUpdate(Wire):
    """What an update of an environment came to."""

    before: Environment
    after: Environment
