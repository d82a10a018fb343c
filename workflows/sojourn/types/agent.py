"""What an agent is: the definition that users write, and its versions."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from sojourn.types.id import AgentId
from sojourn.types.model import ModelRef
from sojourn.types.permission import Permission, PermissionPolicy
from sojourn.types.web import MAX_DOMAINS, Domain, UserLocation
from sojourn.types.wire import Metadata, Omitted, Wire

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]

JsonSchema = dict[str, JsonValue]

# The server refuses an activity that has no time at all, and its session would wait for ever.
Duration = Annotated[timedelta, Field(gt=timedelta(0))]


class FunctionTool(Wire):
    """A Python function registered on the worker, by name."""

    type: Literal["function"] = "function"
    name: ToolName
    permission: Annotated[Permission | None, Omitted] = None


class CustomTool(Wire):
    """A tool that the client runs: the session parks until `user.custom_tool_result` comes."""

    type: Literal["custom"] = "custom"
    name: ToolName
    description: str = Field(min_length=1)
    input_schema: JsonSchema
    timeout: Duration | None = None
    """Longest wait for this tool; ``None`` takes the limit of the agent."""


class ToolOptions(Wire):
    """Settings of one tool of a set."""

    name: Annotated[str | None, Omitted, Field(min_length=1, max_length=255)] = None
    """Of a tool of an MCP server, what the server calls it."""
    enabled: bool | None = None
    permission: Annotated[Permission | None, Omitted] = None
    allowed_domains: Annotated[tuple[Domain, ...], Field(max_length=MAX_DOMAINS), Omitted] = ()
    """Of the web tools: hosts that alone may be fetched or found, with all below them. None means all."""
    blocked_domains: Annotated[tuple[Domain, ...], Field(max_length=MAX_DOMAINS), Omitted] = ()
    """Of the web tools: hosts that may not. There is only one of the two lists."""
    max_content_tokens: Annotated[int | None, Field(ge=1), Omitted] = None
    """Of `web_fetch`: how much text one call may give; ``None`` is as much as fits a result."""
    user_location: Annotated[UserLocation | None, Omitted] = None
    """Of `web_search`."""

    @model_validator(mode="after")
    def _one_list(self) -> "ToolOptions":
        if self.allowed_domains and self.blocked_domains:
            raise ValueError("allowed_domains and blocked_domains exclude each other; leave one out")
        return self


class AgentToolset(Wire):
    """The built-in tools (shell, files, web), which need a sandbox."""

    type: Literal["agent_toolset_20260401"] = "agent_toolset_20260401"
    default_config: ToolOptions | None = None
    configs: tuple[ToolOptions, ...] = ()


class CodeExecutionTool(Wire):
    """The built-in tool `code_execution`, which is no part of the set: runs a piece of Python, JavaScript or shell."""

    type: Literal["code_execution"] = "code_execution"
    permission: Annotated[Permission | None, Omitted] = None


class AskUserTool(Wire):
    """The tool `ask_user`: the agent asks the client one to four questions and waits for the answers."""

    type: Literal["ask_user"] = "ask_user"


class McpToolset(Wire):
    """The tools of one of the definition's MCP servers."""

    type: Literal["mcp_toolset"] = "mcp_toolset"
    mcp_server_name: str
    default_config: ToolOptions | None = None
    configs: tuple[ToolOptions, ...] = ()


ToolConfig = Annotated[
    FunctionTool | CustomTool | AgentToolset | CodeExecutionTool | AskUserTool | McpToolset,
    Field(discriminator="type"),
]


def _tool(value: Any) -> Any:
    return {"type": "function", "name": value} if isinstance(value, str) else value


class McpServer(Wire):
    """An MCP server: by URL, or by the name under which the operator of a worker has set up a local program."""

    type: Literal["url", "stdio"] = "url"
    name: str = Field(min_length=1, max_length=255)
    url: Annotated[str, Omitted, Field(max_length=2048)] = ""
    """Empty for a local program: which one runs is the operator's word, never that of a definition."""

    @model_validator(mode="after")
    def _either(self) -> "McpServer":
        if self.type == "url" and not self.url:
            raise ValueError("an MCP server needs its url")
        if self.type == "stdio" and self.url:
            raise ValueError("a stdio MCP server has no url; it is set up on the worker, by its name")
        return self


class Skill(Wire):
    """A bundle of instructions, pinned to a version or the latest."""

    type: Literal["anthropic", "custom"] = "custom"
    skill_id: str = Field(min_length=1)
    version: str | None = None


_WORKSPACE_TIMEOUT = timedelta(seconds=20)


class Limits(Wire):
    """Bounds of one session of the agent. All of them count per session, not per worker."""

    max_steps: int = Field(default=100, ge=1, le=10_000)
    """Model steps in one turn; the turn ends with an error when they are used up."""
    custom_tool_timeout: Duration | None = timedelta(seconds=300)
    """How long a custom tool's result may take; ``None`` waits for ever."""
    tool_timeout: Duration = timedelta(seconds=120)
    """How long a function tool may run that does not say so itself."""
    workspace_timeout: Annotated[Duration, Field(exclude_if=lambda value: value == _WORKSPACE_TIMEOUT)] = (
        _WORKSPACE_TIMEOUT
    )
    """How long a call waits for the worker that holds the workspace, before that is restored on another."""
    model_timeout: Duration = timedelta(minutes=10)
    """How long one model call may take."""
    model_attempts: int = Field(default=6, ge=1, le=100)
    """Visible attempts of one model step before the turn ends with ``retries_exhausted``."""
    retry_interval: Duration = timedelta(seconds=1)
    """Wait before the first retry of a model step; doubles each time up to a minute."""
    on_exhausted: Literal["idle", "failed"] = "idle"
    """What a session becomes when a turn's retries are used up: usable again, or failed for good."""


class Compaction(Wire):
    """When and how the older part of a conversation gives way to a summary, so that it fits the model's window.

    The system prompt and every `system.message` stay word for word; so do the newest messages, and the message that the
    agent is working on.
    """

    enabled: bool = True
    window_tokens: Annotated[int | None, Field(ge=1000)] = None
    """The model's window, input and output together; ``None`` looks it up and takes 128,000 for an unknown model."""
    threshold: float = Field(default=0.8, ge=0.5, le=1)
    """Share of the window; a step that used as much is followed by a compaction before the next one."""
    keep: float = Field(default=0.2, ge=0, le=0.4)
    """Share of the window that the newest messages may fill and stay word for word."""
    instructions: Annotated[str | None, Field(max_length=10_000)] = None
    """What the summary must not leave out, in words for the model; ``None`` has no wishes."""


class AgentDefinition(Wire):
    """A declarative agent. Immutable; a change makes a new version.

    ``tools`` takes names of functions on the worker, or tool objects. ``model`` takes text as `ModelRef` does.
    """

    name: str = Field(min_length=1, max_length=256)
    model: ModelRef
    system: Annotated[str | None, Field(max_length=100_000)] = None
    description: Annotated[str | None, Field(max_length=2048)] = None
    tools: tuple[Annotated[ToolConfig, BeforeValidator(_tool)], ...] = Field(default=(), max_length=256)
    mcp_servers: tuple[McpServer, ...] = Field(default=(), max_length=20)
    skills: tuple[Skill, ...] = Field(default=(), max_length=20)
    permission_policy: PermissionPolicy = PermissionPolicy()
    hooks: Annotated[tuple[str, ...], Omitted, Field(max_length=64)] = ()
    """Names of functions on the workers that look at what the agent does, in their order."""
    limits: Limits = Limits()
    # Left off the wire while it is the default: definitions made before there was compaction read and look the same.
    compaction: Annotated[Compaction, Field(exclude_if=lambda value: value == Compaction())] = Compaction()
    metadata: Metadata = {}

    if TYPE_CHECKING:
        # What the validators take, for type checkers, which see only what the fields hold.
        def __init__(
            self,
            *,
            name: str,
            model: ModelRef | str,
            system: str | None = None,
            description: str | None = None,
            tools: Sequence[ToolConfig | str] = (),
            mcp_servers: Sequence[McpServer] = (),
            skills: Sequence[Skill] = (),
            permission_policy: PermissionPolicy = ...,
            hooks: Sequence[str] = (),
            limits: Limits = ...,
            compaction: Compaction = ...,
            metadata: Mapping[str, str] = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _consistent(self) -> "AgentDefinition":
        names = [tool.name for tool in self.tools if isinstance(tool, FunctionTool | CustomTool)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"tool names must be unique; {twice[0]!r} is there twice")
        servers = {server.name for server in self.mcp_servers}
        used = {tool.mcp_server_name for tool in self.tools if isinstance(tool, McpToolset)}
        if servers != used:
            raise ValueError(
                f"every MCP server needs one mcp_toolset and the other way round; unmatched: {sorted(servers ^ used)}"
            )
        return self


class AgentVersion(Wire):
    """One version of an agent, as stored."""

    id: AgentId
    version: int = Field(ge=1)
    definition: AgentDefinition
    created_at: datetime | None = None
    """When this version was made; ``None`` inside a session's snapshot."""
    archived_at: datetime | None = None

    @property
    def name(self) -> str:
        """The name in the definition."""
        return self.definition.name


class AgentInput(Wire):
    """What an `AgentWorkflow` run starts from."""

    agent_id: AgentId
    workspace: str
    definition: AgentDefinition
    version: int = 1
    """The version that ``definition`` is; more than 1 after continue-as-new."""
    archived: bool = False


class UpdateAgentInput(Wire):
    """A new definition for an agent."""

    definition: AgentDefinition
    version: int | None = None
    """The version the caller has seen; another one is refused. ``None`` means last write wins."""


class AgentInfo(Wire):
    """An agent as lists show it."""

    id: AgentId
    name: str
    version: int
    """The latest."""
    created_at: datetime
    archived: bool = False
