"""What a session's model may call: each tool of its agent with what the runtime must know about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sojourn.activities.mcp.name import tool_name
from sojourn.activities.model import ToolSpec
from sojourn.activities.tool import Tool, Toolbox
from sojourn.types.agent import (
    AgentToolset,
    AskUserTool,
    CodeExecutionTool,
    CustomTool,
    FunctionTool,
    McpToolset,
    ToolConfig,
    ToolOptions,
)
from sojourn.types.builtin import BUILT_IN, CODE_EXECUTION, IN_WORKSPACE, Place
from sojourn.types.environment import SelfHostedConfig
from sojourn.types.mcp import McpTool
from sojourn.types.permission import Permission
from sojourn.types.question import ASK_USER, ASK_USER_DESCRIPTION, ask_user_schema
from sojourn.types.session import SessionInput, ToolKind

McpTools = Mapping[str, Sequence[McpTool]]
"""What MCP servers have said that they offer, by their names in the definition."""

_NONE: McpTools = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tool as the session has it."""

    name: str
    kind: ToolKind
    config: ToolConfig
    tool: Tool | None = None
    """What runs; ``None`` for the client's own, and where the worker lacks it."""
    options: ToolOptions | None = None
    """Settings of a tool that is part of a set."""
    place: Place | None = None
    mcp: McpTool | None = None
    """The tool as its MCP server describes it."""

    @property
    def mcp_server_name(self) -> str:
        """The server whose tool it is; empty for any other."""
        return self.config.mcp_server_name if isinstance(self.config, McpToolset) else ""

    @property
    def spec(self) -> ToolSpec | None:
        """How the model is told about it; ``None`` where the worker lacks it."""
        if isinstance(self.config, CustomTool):
            return ToolSpec(self.name, self.config.description, self.config.input_schema)
        if isinstance(self.config, AskUserTool):
            return ToolSpec(self.name, ASK_USER_DESCRIPTION, ask_user_schema())
        if self.mcp is not None:
            return ToolSpec(self.name, self.mcp.description, self.mcp.input_schema)
        return ToolSpec(self.name, self.tool.description, self.tool.input_schema) if self.tool else None

    @property
    def configured(self) -> Permission | None:
        """The permission that the agent's definition gives this very tool."""
        if isinstance(self.config, FunctionTool | CodeExecutionTool):
            return self.config.permission
        return self.options.permission if self.options else None

    @property
    def declared(self) -> Permission | None:
        """What holds where nobody has a rule for it: what its code says; somebody else's server is not trusted."""
        if self.kind == "mcp":
            return "ask"
        return self.tool.permission if self.tool else None

    @property
    def idempotent(self) -> bool:
        """Whether a lost call may be made again."""
        return self.mcp.is_repeatable if self.mcp else bool(self.tool and self.tool.idempotent)


class Catalogue:
    """Knows the worker's tools, and which of them a session has.

    Args:
        tools: The functions of the worker.
        built_in: The built-in tools.
    """

    def __init__(self, tools: Toolbox, built_in: Toolbox | None = None) -> None:
        self.tools = tools
        self.built_in = built_in or Toolbox()

    def of(self, start: SessionInput, mcp_tools: McpTools = _NONE) -> dict[str, Entry]:
        """The tools of a session by name, in the order of its agent's definition; the first of a name counts."""
        found: dict[str, Entry] = {}
        for config in start.agent.definition.tools:
            for entry in self._entries(config, start, mcp_tools):
                found.setdefault(entry.name, entry)
        return found

    def specs(self, start: SessionInput, mcp_tools: McpTools = _NONE) -> Sequence[ToolSpec]:
        """How the model is told about them, without those that the worker lacks."""
        return [spec for entry in self.of(start, mcp_tools).values() if (spec := entry.spec) is not None]

    def _entries(self, config: ToolConfig, start: SessionInput, mcp_tools: McpTools) -> Iterator[Entry]:
        match config:
            case CustomTool():
                yield Entry(config.name, "custom", config)
            case AskUserTool():
                yield Entry(ASK_USER, "custom", config)
            case FunctionTool():
                yield Entry(config.name, "function", config, self.tools.get(config.name))
            case CodeExecutionTool():
                yield self._built_in(CODE_EXECUTION, config, None, start)
            case AgentToolset():
                for name in BUILT_IN:
                    options = options_of(config, name)
                    if options.enabled is not False:
                        yield self._built_in(name, config, options, start)
            case McpToolset(mcp_server_name=server):
                for tool in mcp_tools.get(server, ()):
                    options = options_of(config, tool.name)
                    if options.enabled is not False:
                        yield Entry(tool_name(server, tool.name), "mcp", config, options=options, mcp=tool)

    def _built_in(self, name: str, config: ToolConfig, options: ToolOptions | None, start: SessionInput) -> Entry:
        place: Place | None = None
        if name in IN_WORKSPACE:
            place = "client" if isinstance(start.sandbox, SelfHostedConfig) else "workspace"
        return Entry(name, "builtin", config, self.built_in.get(name), options, place)


def options_of(toolset: AgentToolset | McpToolset, name: str) -> ToolOptions:
    """The settings of one tool of the set: its own, and what the set says for the rest."""
    default = toolset.default_config or ToolOptions()
    own = next((each for each in toolset.configs if each.name == name), ToolOptions())
    given = {field: value for field in ToolOptions.model_fields if (value := getattr(own, field)) not in (None, ())}
    return default.model_copy(update={**given, "name": name})
