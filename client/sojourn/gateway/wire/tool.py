"""Tools, MCP servers and skills of agents (Managed Agents API §1.1, §5)."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from sojourn.gateway.wire.fault import NotYet, fault
from sojourn.types import (
    AgentToolset,
    CustomTool,
    FunctionTool,
    InvalidRequestError,
    McpServer,
    McpToolset,
    Permission,
    Skill,
    ToolConfig,
    ToolOptions,
)
from sojourn.types.agent import AskUserTool, CodeExecutionTool, ToolName
from sojourn.types.builtin import BUILT_IN, CODE_EXECUTION, BuiltInName
from sojourn.types.question import ASK_USER
from sojourn.types.web import MAX_DOMAINS, Domain, UserLocation
from sojourn.types.wire import Omitted, Wire


class AlwaysAllow(Wire):
    """Runs without asking."""

    type: Literal["always_allow"] = "always_allow"


class AlwaysAsk(Wire):
    """Waits for a `user.tool_confirmation`."""

    type: Literal["always_ask"] = "always_ask"


class AlwaysDeny(Wire):
    """Never runs. An extension: agents that were made with the Python client can have it."""

    type: Literal["always_deny"] = "always_deny"


# `auto` of the contract needs a model that judges, which there is none of yet.
Policy = Annotated[AlwaysAllow | AlwaysAsk | AlwaysDeny, Field(discriminator="type")]

_PERMISSIONS: dict[str, Permission] = {"always_allow": "allow", "always_ask": "ask", "always_deny": "deny"}
_POLICIES: dict[Permission, AlwaysAllow | AlwaysAsk | AlwaysDeny] = {
    "allow": AlwaysAllow(),
    "ask": AlwaysAsk(),
    "deny": AlwaysDeny(),
}


Domains = Annotated[tuple[Domain, ...], Field(min_length=1, max_length=MAX_DOMAINS)]

_STORED = ("allowed_domains", "blocked_domains", "max_content_tokens", "user_location")
_OF_WEB_TOOLS = {
    "allowed_domains": ("web_fetch", "web_search"),
    "blocked_domains": ("web_fetch", "web_search"),
    "max_content_tokens": ("web_fetch",),
    "user_location": ("web_search",),
}


class SetDefault(Wire):
    """Settings of all tools of a set that say nothing themselves."""

    enabled: bool | None = None
    permission_policy: Policy | None = None

    def resolved(self, permission: Permission) -> ToolOptions:
        """With what holds when nothing is said."""
        return ToolOptions(
            enabled=self.enabled is not False, permission=_permission(self.permission_policy, permission)
        )

    def within(self, default: ToolOptions, *, name: str) -> ToolOptions:
        """The settings of one tool, with what the set says for the rest."""
        enabled = bool(default.enabled) if self.enabled is None else self.enabled
        permission = _permission(self.permission_policy, default.permission or "allow")
        return ToolOptions(name=name, enabled=enabled, permission=permission)


class McpToolSettings(SetDefault):
    """Settings of one tool of an MCP server, by the server's own name for it."""

    name: str = Field(min_length=1, max_length=255)


class BuiltInSettings(SetDefault):
    """Settings of one built-in tool."""

    name: BuiltInName
    type: BuiltInName | None = None
    allowed_domains: Domains | None = None
    blocked_domains: Domains | None = None
    max_content_tokens: Annotated[int | None, Field(ge=1)] = None
    user_location: UserLocation | None = None
    url_sources: NotYet = None

    @model_validator(mode="after")
    def _one_name(self) -> "BuiltInSettings":
        if self.type not in (None, self.name):
            raise fault("type", message=f"{self.type!r} is not the tool's name, {self.name!r}; leave it out")
        return self

    @model_validator(mode="after")
    def _of_the_tool(self) -> "BuiltInSettings":
        for field, tools in _OF_WEB_TOOLS.items():
            if getattr(self, field) is not None and self.name not in tools:
                raise fault(field, message=f"no setting of {self.name}, but of {' and '.join(tools)}; leave it out")
        if self.allowed_domains is not None and self.blocked_domains is not None:
            raise fault("blocked_domains", message="not beside allowed_domains; leave one of them out")
        for field in ("allowed_domains", "blocked_domains") if self.name == "web_fetch" else ():
            if any("/" in each for each in getattr(self, field) or ()):
                raise fault(field, message="hosts without a path; write docs.example.com")
        return self

    def within(self, default: ToolOptions, *, name: str) -> ToolOptions:
        own = {field: value for field in _STORED if (value := getattr(self, field)) is not None}
        return super().within(default, name=name).model_copy(update=own)


class BuiltInTools(Wire):
    """The built-in tools."""

    type: Literal["agent_toolset_20260401"]
    default_config: SetDefault | None = None
    configs: tuple[BuiltInSettings, ...] = ()

    def stored(self) -> AgentToolset:
        default = (self.default_config or SetDefault()).resolved("allow")
        return AgentToolset(
            default_config=default, configs=tuple(each.within(default, name=each.name) for each in self.configs)
        )


class McpTools(Wire):
    """The tools of one of the agent's MCP servers."""

    type: Literal["mcp_toolset"]
    mcp_server_name: str = Field(min_length=1, max_length=255)
    default_config: SetDefault | None = None
    configs: tuple[McpToolSettings, ...] = ()

    def stored(self) -> McpToolset:
        default = (self.default_config or SetDefault()).resolved("ask")
        configs = tuple(each.within(default, name=each.name) for each in self.configs)
        return McpToolset(mcp_server_name=self.mcp_server_name, default_config=default, configs=configs)


def _free_name(name: str) -> str:
    if name in (*BUILT_IN, CODE_EXECUTION, ASK_USER):
        raise ValueError(f"{name!r} is the name of a built-in tool; choose another")
    if name.startswith("mcp__"):
        raise ValueError(f"{name!r} begins as the tools of MCP servers do; choose another")
    return name


OwnName = Annotated[ToolName, AfterValidator(_free_name)]


def _check_schema(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if "type" not in schema:
        raise fault("type", message="field required; it is 'object'")
    if schema["type"] != "object":
        raise fault("type", message="it is 'object', because the input of a tool is one")
    for key in ("oneOf", "anyOf", "allOf"):
        if key in schema:
            raise fault(key, message="not at the top of an input schema; use it inside properties")
    if not isinstance(schema.get("properties") or {}, dict):
        raise fault("properties", message="it is an object")
    required = schema.get("required")
    if required is not None and not (isinstance(required, list) and all(isinstance(each, str) for each in required)):
        raise fault("required", message="it is a list of names")
    _check_plain(schema, ())
    return schema


def _check_plain(value: JsonValue, path: tuple[str | int, ...]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise fault(*path, message="no number of JSON")
    if isinstance(value, dict):
        if "$ref" in value and path[-1:] != ("properties",):
            raise fault(*path, "$ref", message="references are not supported; write the schema out")
        for key, each in value.items():
            _check_plain(each, (*path, key))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            _check_plain(each, (*path, place))


InputSchema = Annotated[dict[str, JsonValue], AfterValidator(_check_schema)]


class ClientTool(Wire):
    """A tool that the client runs."""

    type: Literal["custom"]
    name: OwnName
    description: str = Field(min_length=1)
    input_schema: InputSchema

    def stored(self) -> CustomTool:
        return CustomTool(name=self.name, description=self.description, input_schema=self.input_schema)


class WorkerTool(Wire):
    """A Python function registered on the workers. An extension."""

    type: Literal["function"]
    name: OwnName
    permission_policy: Policy | None = None

    def stored(self) -> FunctionTool:
        permission = _PERMISSIONS[self.permission_policy.type] if self.permission_policy else None
        return FunctionTool(name=self.name, permission=permission)


class CodeExecution(Wire):
    """The built-in tool that runs a piece of code. An extension: it is no part of the set."""

    type: Literal["code_execution"]
    permission_policy: Policy | None = None

    def stored(self) -> CodeExecutionTool:
        return CodeExecutionTool(
            permission=_PERMISSIONS[self.permission_policy.type] if self.permission_policy else None
        )


class AskUser(Wire):
    """The tool `ask_user`, which the client answers with a `user.custom_tool_result`. An extension."""

    type: Literal["ask_user"]

    def stored(self) -> AskUserTool:
        return AskUserTool()


Tool = Annotated[
    BuiltInTools | McpTools | ClientTool | WorkerTool | CodeExecution | AskUser, Field(discriminator="type")
]
"""As clients write it."""

Tools = Annotated[tuple[Tool, ...], Field(max_length=256)]


class UrlServer(Wire):
    """An MCP server by URL."""

    type: Literal["url"]
    name: str = Field(min_length=1, max_length=255)
    url: str = Field(min_length=1, max_length=2048)

    @model_validator(mode="after")
    def _reachable(self) -> "UrlServer":
        if not re.match(r"https?://[^\s/]", self.url):
            raise fault("url", message=f"{self.url!r} is no http or https URL")
        return self

    def stored(self) -> McpServer:
        return McpServer(name=self.name, url=self.url)


class LocalServer(Wire):
    """A local MCP server that the operator of the workers has set up under this name. An extension."""

    type: Literal["stdio"]
    name: str = Field(min_length=1, max_length=255)

    def stored(self) -> McpServer:
        return McpServer(type="stdio", name=self.name)


Servers = Annotated[tuple[Annotated[UrlServer | LocalServer, Field(discriminator="type")], ...], Field(max_length=20)]


class SkillReference(Wire):
    """A skill, pinned to a version or the latest."""

    type: Literal["anthropic", "custom"]
    skill_id: str = Field(min_length=1, max_length=256)
    version: Annotated[str | None, Field(min_length=1, max_length=256)] = None

    def stored(self) -> Skill:
        return Skill(type=self.type, skill_id=self.skill_id, version=self.version)


Skills = Annotated[tuple[SkillReference, ...], Field(max_length=20)]


class ResolvedDefault(Wire):
    """Settings of the tools of a set."""

    enabled: bool
    permission_policy: Policy


class ResolvedSettings(ResolvedDefault):
    """Settings of one tool of a set."""

    name: str


class ResolvedBuiltIn(ResolvedSettings):
    """Settings of one built-in tool."""

    type: str
    allowed_domains: Annotated[tuple[str, ...], Omitted] = ()
    blocked_domains: Annotated[tuple[str, ...], Omitted] = ()
    max_content_tokens: Annotated[int | None, Omitted] = None
    user_location: Annotated[UserLocation | None, Omitted] = None


class ResolvedBuiltInTools(Wire):
    """The built-in tools, with every setting."""

    type: Literal["agent_toolset_20260401"] = "agent_toolset_20260401"
    default_config: ResolvedDefault
    configs: tuple[ResolvedBuiltIn, ...]


class ResolvedMcpTools(Wire):
    """The tools of an MCP server, with every setting."""

    type: Literal["mcp_toolset"] = "mcp_toolset"
    mcp_server_name: str
    default_config: ResolvedDefault
    configs: tuple[ResolvedSettings, ...]


class ResolvedClientTool(Wire):
    """A tool that the client runs."""

    type: Literal["custom"] = "custom"
    name: str
    description: str
    input_schema: dict[str, JsonValue]


class ResolvedWorkerTool(Wire):
    """A Python function registered on the workers."""

    type: Literal["function"] = "function"
    name: str
    permission_policy: Policy | None
    """``None`` leaves it to the agent's, the session's and the worker's rules."""


class ResolvedCodeExecution(Wire):
    """The built-in tool that runs a piece of code."""

    type: Literal["code_execution"] = "code_execution"
    permission_policy: Policy | None
    """As that of a function on the workers."""


class ResolvedAskUser(Wire):
    """The tool `ask_user`."""

    type: Literal["ask_user"] = "ask_user"


ResolvedTool = Annotated[
    ResolvedBuiltInTools
    | ResolvedMcpTools
    | ResolvedClientTool
    | ResolvedWorkerTool
    | ResolvedCodeExecution
    | ResolvedAskUser,
    Field(discriminator="type"),
]
"""As replies show it. What comes back can be sent again."""


def resolved(tool: ToolConfig) -> ResolvedTool:
    """A stored tool as replies show it."""
    if isinstance(tool, CustomTool):
        return ResolvedClientTool(name=tool.name, description=tool.description, input_schema=tool.input_schema)
    if isinstance(tool, FunctionTool):
        policy = _POLICIES[tool.permission] if tool.permission else None
        return ResolvedWorkerTool(name=tool.name, permission_policy=policy)
    if isinstance(tool, CodeExecutionTool):
        return ResolvedCodeExecution(permission_policy=_POLICIES[tool.permission] if tool.permission else None)
    if isinstance(tool, AskUserTool):
        return ResolvedAskUser()
    if isinstance(tool, McpToolset):
        default = _default(tool.default_config, "ask")
        named = tuple(
            ResolvedSettings(name=each.name or "", **dict(_default(each, default.permission_policy)))
            for each in tool.configs
        )
        return ResolvedMcpTools(mcp_server_name=tool.mcp_server_name, default_config=default, configs=named)
    default = _default(tool.default_config, "allow")
    typed = tuple(
        ResolvedBuiltIn(
            name=each.name or "",
            type=each.name or "",
            **dict(_default(each, default.permission_policy)),
            **{field: getattr(each, field) for field in _STORED},
        )
        for each in tool.configs
    )
    return ResolvedBuiltInTools(default_config=default, configs=typed)


def _default(options: ToolOptions | None, otherwise: Permission | Policy) -> ResolvedDefault:
    fallback = _POLICIES[otherwise] if isinstance(otherwise, str) else otherwise
    if options is None:
        return ResolvedDefault(enabled=True, permission_policy=fallback)
    policy = _POLICIES[options.permission] if options.permission else fallback
    return ResolvedDefault(enabled=options.enabled is not False, permission_policy=policy)


def _permission(policy: Policy | None, otherwise: Permission) -> Permission:
    return _PERMISSIONS[policy.type] if policy else otherwise


def check_tools(tools: Sequence[ToolConfig], servers: Sequence[McpServer], *, path: str = "") -> None:
    """Refuse two tools of one name, and servers and toolsets that do not belong together.

    Args:
        tools: All tools of the agent.
        servers: All its MCP servers.
        path: Of the object that holds both, with a dot at the end.

    Raises:
        InvalidRequestError: Names the path of the field.
    """
    seen: set[tuple[str, str]] = set()
    for place, tool in enumerate(tools):
        field = _naming_field(tool)
        name = str(getattr(tool, field))
        if (field, name) in seen:
            raise _refused(f"{path}tools.{place}.{field}", f"{name!r} is there twice; leave one out")
        seen.add((field, name))
    _check_servers(tools, servers, path)


def _naming_field(tool: ToolConfig) -> str:
    if isinstance(tool, McpToolset):
        return "mcp_server_name"
    return "type" if isinstance(tool, AgentToolset | CodeExecutionTool | AskUserTool) else "name"


def _check_servers(tools: Sequence[ToolConfig], servers: Sequence[McpServer], path: str) -> None:
    names = [server.name for server in servers]
    used = {tool.mcp_server_name for tool in tools if isinstance(tool, McpToolset)}
    for place, name in enumerate(names):
        field = f"{path}mcp_servers.{place}.name"
        if name in names[:place]:
            raise _refused(field, f"{name!r} is there twice; leave one out")
        if name not in used:
            raise _refused(field, f"no mcp_toolset in tools uses {name!r}; add one")
    for place, tool in enumerate(tools):
        if isinstance(tool, McpToolset) and tool.mcp_server_name not in names:
            field = f"{path}tools.{place}.mcp_server_name"
            raise _refused(field, f"{tool.mcp_server_name!r} is not in mcp_servers; add it there")


def _refused(field: str, text: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {text}", param=field)
