"""Credentials: what clients write, which holds secrets, and what is shown, which does not (Managed Agents API §1.7)."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import AwareDatetime, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from sojourn.types.environment import Hosts, Patch, UnrestrictedNetwork
from sojourn.types.error import InvalidRequestError
from sojourn.types.id import CredentialId, VaultId
from sojourn.types.secret import KeptText, KeptToken, Secretive, SecretName, SecretText, Token
from sojourn.types.wire import Metadata, Omitted, Wire

DEFAULT_PORTS = {"http": 80, "https": 443}


_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_PORT = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
# Neither user nor fragment, which belong to nobody's address, nor what programs read in different ways.
_URL = rf"""^[Hh][Tt][Tt][Pp][Ss]?://{_LABEL}(\.{_LABEL})*\.?(:({_PORT}))?([/?][!"\x24-\[\]-~]*)?$"""


def normalized_url(url: str) -> str:
    """A server's address by which it is found: case of scheme and host, default port and last slash do not count.

    Raises:
        ValueError: It is no address of a server.
    """
    if not re.fullmatch(_URL, url):
        raise ValueError("is no URL of a server; write it as https://HOST/PATH, without user and fragment")
    parts = urlsplit(url)
    scheme, host = parts.scheme, parts.hostname or ""
    where = host if parts.port in (None, DEFAULT_PORTS[scheme]) else f"{host}:{parts.port}"
    return urlunsplit((scheme, where, parts.path.rstrip("/"), parts.query, ""))


@dataclass(frozen=True)
class _Address:
    """Marks a text that is a server's address. What is none is not repeated: it may hold a password."""

    pattern: str = _URL

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}

    def _check(self, url: str) -> str:
        normalized_url(url)
        return url


ServerUrl = Annotated[str, Field(max_length=2048), _Address()]
VariableName = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
DisplayName = Annotated[str, Field(min_length=1, max_length=255)]
OAuthText = Annotated[str, Field(min_length=1, max_length=2048)]
TokenEndpointAuthType = Literal["none", "client_secret_basic", "client_secret_post"]


# --- what is shown -------------------------------------------------------------------------------------------------


class TokenEndpointAuth(Wire):
    """How the token endpoint knows the client."""

    type: TokenEndpointAuthType


class OAuthRefresh(Wire):
    """How a new access token is got."""

    token_endpoint: ServerUrl
    client_id: OAuthText
    scope: OAuthText | None = None
    resource: OAuthText | None = None
    token_endpoint_auth: TokenEndpointAuth


class McpOAuth(Wire):
    """An OAuth token for an MCP server."""

    type: Literal["mcp_oauth"] = "mcp_oauth"
    mcp_server_url: ServerUrl
    expires_at: datetime | None = None
    """Of the access token; ``None`` if it is not known."""
    refresh: OAuthRefresh | None = None
    """``None``: it cannot be renewed."""

    @property
    def key(self) -> str:
        """What only one active credential of a vault is for."""
        return normalized_url(self.mcp_server_url)


class StaticBearer(Wire):
    """A token for an MCP server that is always the same."""

    type: Literal["static_bearer"] = "static_bearer"
    mcp_server_url: ServerUrl

    @property
    def key(self) -> str:
        """What only one active credential of a vault is for."""
        return normalized_url(self.mcp_server_url)


class LimitedHosts(Wire):
    """The secret goes to these hosts alone: names, IPv4 addresses, or ``*.example.com`` for all below one."""

    type: Literal["limited"] = "limited"
    allowed_hosts: Annotated[Hosts, Field(min_length=1, max_length=16)]


SecretNetwork = Annotated[UnrestrictedNetwork | LimitedHosts, Field(discriminator="type")]
"""``unrestricted``: wherever the environment lets the session go."""


class InjectionLocation(Wire):
    """Where in a request the secret takes the place of what stands for it."""

    header: bool = False
    body: bool = False

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not (self.header or self.body):
            raise ValueError("header or body must be true")
        return self


EVERYWHERE = InjectionLocation(header=True, body=True)


class EnvironmentVariable(Wire):
    """A variable in the sandbox. What it holds there only stands for the secret."""

    type: Literal["environment_variable"] = "environment_variable"
    secret_name: VariableName
    networking: SecretNetwork
    injection_location: InjectionLocation = EVERYWHERE

    @property
    def key(self) -> str:
        """What only one active credential of a vault is for."""
        return self.secret_name


CredentialAuth = Annotated[McpOAuth | StaticBearer | EnvironmentVariable, Field(discriminator="type")]


class Credential(Wire):
    """A credential as it is shown, without its secrets."""

    id: CredentialId
    vault_id: VaultId
    display_name: DisplayName | None = None
    auth: CredentialAuth
    metadata: Metadata = {}
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None


# --- what is written -----------------------------------------------------------------------------------------------


class NewPublicClient(Wire):
    """The token endpoint wants no secret of the client."""

    type: Literal["none"]


class NewConfidentialClient(Secretive):
    """It wants one: in a header (basic) or in the form (post)."""

    type: Literal["client_secret_basic", "client_secret_post"]
    client_secret: Token


class NewOAuthRefresh(Secretive):
    """`OAuthRefresh` with its secrets."""

    token_endpoint: ServerUrl
    client_id: OAuthText
    refresh_token: Token
    scope: OAuthText | None = None
    resource: OAuthText | None = None
    token_endpoint_auth: Annotated[NewPublicClient | NewConfidentialClient, Field(discriminator="type")]

    def shown(self) -> OAuthRefresh:
        """Without the secrets."""
        return OAuthRefresh(
            token_endpoint=self.token_endpoint,
            client_id=self.client_id,
            scope=self.scope,
            resource=self.resource,
            token_endpoint_auth=TokenEndpointAuth(type=self.token_endpoint_auth.type),
        )

    def secrets(self) -> dict[SecretName, SecretStr]:
        """The secrets by their names."""
        found: dict[SecretName, SecretStr] = {"refresh_token": self.refresh_token}
        if isinstance(self.token_endpoint_auth, NewConfidentialClient):
            found["client_secret"] = self.token_endpoint_auth.client_secret
        return found


class NewMcpOAuth(Secretive):
    """`McpOAuth` with its secrets."""

    type: Literal["mcp_oauth"] = "mcp_oauth"
    mcp_server_url: ServerUrl
    access_token: Token
    expires_at: AwareDatetime | None = None
    refresh: NewOAuthRefresh | None = None

    def shown(self) -> McpOAuth:
        """Without the secrets."""
        refresh = self.refresh.shown() if self.refresh else None
        return McpOAuth(mcp_server_url=self.mcp_server_url, expires_at=self.expires_at, refresh=refresh)

    def secrets(self) -> dict[SecretName, SecretStr]:
        """The secrets by their names."""
        return {"access_token": self.access_token, **(self.refresh.secrets() if self.refresh else {})}


class NewStaticBearer(Secretive):
    """`StaticBearer` with its secret."""

    type: Literal["static_bearer"] = "static_bearer"
    mcp_server_url: ServerUrl
    token: Token

    def shown(self) -> StaticBearer:
        """Without the secret."""
        return StaticBearer(mcp_server_url=self.mcp_server_url)

    def secrets(self) -> dict[SecretName, SecretStr]:
        """The secrets by their names."""
        return {"token": self.token}


class NewEnvironmentVariable(Secretive):
    """`EnvironmentVariable` with its secret."""

    type: Literal["environment_variable"] = "environment_variable"
    secret_name: VariableName
    secret_value: SecretText
    networking: SecretNetwork
    injection_location: InjectionLocation = EVERYWHERE

    def shown(self) -> EnvironmentVariable:
        """Without the secret."""
        return EnvironmentVariable(
            secret_name=self.secret_name, networking=self.networking, injection_location=self.injection_location
        )

    def secrets(self) -> dict[SecretName, SecretStr]:
        """The secrets by their names."""
        return {"secret_value": self.secret_value}


class CredentialDefinition(Secretive):
    """A new credential, with its secrets."""

    display_name: DisplayName | None = None
    auth: Annotated[NewMcpOAuth | NewStaticBearer | NewEnvironmentVariable, Field(discriminator="type")]
    metadata: Metadata = {}


# --- changes -------------------------------------------------------------------------------------------------------


class SecretivePatch(Patch, Secretive):
    """A change that may bring secrets. They are left off when it travels, and go beside it, sealed."""


class ClientSecretChange(SecretivePatch):
    """A new secret of the client. How it is sent stays as it is, whatever ``type`` says (SDK documentation)."""

    type: Literal["client_secret_basic", "client_secret_post"]
    client_secret: KeptToken = None


class OAuthRefreshChange(SecretivePatch):
    """What is left out stays."""

    refresh_token: KeptToken = None
    scope: Annotated[str, Field(max_length=2048)] | None = None
    """An empty text removes it."""
    token_endpoint_auth: ClientSecretChange | None = None


class McpOAuthChange(SecretivePatch):
    """What is left out stays."""

    type: Literal["mcp_oauth"]
    access_token: KeptToken = None
    expires_at: AwareDatetime | None = None
    """``None`` if it is not known any more."""
    refresh: OAuthRefreshChange | None = None

    def secrets(self) -> dict[SecretName, SecretStr | None]:
        """The new secrets by their names."""
        client = self.refresh.token_endpoint_auth if self.refresh else None
        return {
            "access_token": self.access_token,
            "refresh_token": self.refresh.refresh_token if self.refresh else None,
            "client_secret": client.client_secret if client else None,
        }

    def applied(self, auth: McpOAuth) -> McpOAuth:
        """What is shown after the change."""
        expires_at = self.expires_at if "expires_at" in self.model_fields_set else auth.expires_at
        return auth.model_copy(update={"expires_at": expires_at, "refresh": self._refresh(auth.refresh)})

    def _refresh(self, refresh: OAuthRefresh | None) -> OAuthRefresh | None:
        if self.refresh is None:
            return refresh
        if refresh is None:
            raise _wrong("auth.refresh", "the credential has none; create another one with it")
        if self.refresh.token_endpoint_auth is not None and refresh.token_endpoint_auth.type == "none":
            raise _wrong("auth.refresh.token_endpoint_auth", "the token endpoint of the credential takes no secret")
        if self.refresh.scope is None:
            return refresh
        return refresh.model_copy(update={"scope": self.refresh.scope or None})


class StaticBearerChange(SecretivePatch):
    """What is left out stays."""

    type: Literal["static_bearer"]
    token: KeptToken = None

    def secrets(self) -> dict[SecretName, SecretStr | None]:
        """The new secret by its name."""
        return {"token": self.token}

    def applied(self, auth: StaticBearer) -> StaticBearer:
        """What is shown after the change."""
        return auth


class InjectionLocationChange(Patch):
    """What is left out stays."""

    header: bool = False
    body: bool = False

    def applied(self, location: InjectionLocation) -> InjectionLocation:
        """The places after the change."""
        given = self.model_fields_set
        header = self.header if "header" in given else location.header
        body = self.body if "body" in given else location.body
        if not (header or body):
            raise _wrong("auth.injection_location", "header or body must be true")
        return InjectionLocation(header=header, body=body)


class EnvironmentVariableChange(SecretivePatch):
    """What is left out stays."""

    type: Literal["environment_variable"]
    secret_value: KeptText = None
    networking: SecretNetwork | None = None
    injection_location: InjectionLocationChange = InjectionLocationChange()

    def secrets(self) -> dict[SecretName, SecretStr | None]:
        """The new secret by its name."""
        return {"secret_value": self.secret_value}

    def applied(self, auth: EnvironmentVariable) -> EnvironmentVariable:
        """What is shown after the change."""
        location = self.injection_location.applied(auth.injection_location)
        return auth.model_copy(
            update={"networking": self.networking or auth.networking, "injection_location": location}
        )


AuthChange = Annotated[McpOAuthChange | StaticBearerChange | EnvironmentVariableChange, Field(discriminator="type")]


class CredentialChange(SecretivePatch):
    """A change to a credential. What is left out stays; so does the key, which is the server or the variable."""

    auth: AuthChange | None = None
    display_name: DisplayName | None = None
    """``None`` removes it."""
    metadata: dict[str, str | None] | None = None
    """A merge patch: ``None`` as a value removes the key."""

    def secrets(self) -> dict[SecretName, SecretStr]:
        """The new secrets by their names."""
        given = self.auth.secrets() if self.auth else {}
        return {name: secret for name, secret in given.items() if secret is not None}

    def applied_auth(self, auth: CredentialAuth) -> CredentialAuth:
        """What is shown of it after the change.

        Raises:
            InvalidRequestError: It is of another type, or the result would be none; names the path.
        """
        match self.auth, auth:
            case None, _:
                return auth
            case McpOAuthChange() as change, McpOAuth():
                return change.applied(auth)
            case StaticBearerChange() as change, StaticBearer():
                return change.applied(auth)
            case EnvironmentVariableChange() as change, EnvironmentVariable():
                return change.applied(auth)
        raise _wrong("auth.type", f"is {auth.type!r} and cannot change; create another credential")


def _wrong(path: str, text: str) -> InvalidRequestError:
    return InvalidRequestError(f"{path}: {text}", param=path)


# --- what is kept --------------------------------------------------------------------------------------------------

Sealed = dict[SecretName, str]
"""Sealed texts by the names of the secrets."""


class CredentialEntry(Wire):
    """A credential as its vault keeps it: what is shown, and the sealed secrets."""

    credential: Credential
    sealed: Sealed = {}
    generation: Annotated[int, Omitted] = 0
    """How often the secrets have changed."""

    @property
    def is_active(self) -> bool:
        """Whether it opens anything."""
        return self.credential.archived_at is None


def secret_context(workspace: str, vault_id: VaultId, credential_id: CredentialId, name: SecretName) -> str:
    """What a sealed secret belongs to; see `Sealer.seal`."""
    return f"vaults/{workspace}/{vault_id}/{credential_id}/{name}"
