"""What a session asks of the sandbox of its workers."""

from dataclasses import dataclass

from sojourn.types.agent import AgentToolset, CodeExecutionTool, ToolConfig
from sojourn.types.builtin import BUILT_IN, IN_WORKSPACE
from sojourn.types.environment import CloudConfig, LimitedNetwork, Packages, SandboxConfig, SelfHostedConfig
from sojourn.types.session import EnvironmentConfig

SANDBOX = "sandbox"
"""Any at all."""


@dataclass(frozen=True)
class Need:
    """One thing that a worker must have."""

    what: str
    """`SANDBOX`, or the name of a package manager."""
    field: str
    """Which field of the request asks for it."""


def needs_of(
    tools: tuple[ToolConfig, ...], environment: EnvironmentConfig, sandbox: SandboxConfig | None
) -> tuple[Need, ...]:
    """What such a session needs, each thing once; nothing if it can do without a sandbox."""
    found: dict[str, Need] = {}
    if isinstance(sandbox, SelfHostedConfig):
        return ()
    for field in _fields(tools, environment, sandbox):
        found.setdefault(SANDBOX, Need(SANDBOX, field))
    if isinstance(sandbox, CloudConfig):
        for manager in managers(sandbox.packages):
            found.setdefault(manager, Need(manager, "environment_id"))
    return tuple(found.values())


def managers(packages: Packages) -> list[str]:
    """The package managers that something is to be installed with."""
    return [name for name in ("apt", "cargo", "gem", "go", "npm", "pip") if getattr(packages, name)]


def _fields(tools: tuple[ToolConfig, ...], environment: EnvironmentConfig, sandbox: SandboxConfig | None) -> list[str]:
    asking = [f"tools.{place}" for place, tool in enumerate(tools) if _runs_in_workspace(tool)]
    asking += [f"environment.{name}" for name in ("env_vars", "working_dir") if getattr(environment, name)]
    if isinstance(sandbox, CloudConfig) and (sandbox.packages.count or isinstance(sandbox.networking, LimitedNetwork)):
        asking.append("environment_id")
    return asking


def _runs_in_workspace(tool: ToolConfig) -> bool:
    match tool:
        case CodeExecutionTool():
            return True
        case AgentToolset():
            default = tool.default_config is None or tool.default_config.enabled is not False
            enabled: dict[str, bool] = {name: default for name in BUILT_IN}
            enabled |= {each.name: each.enabled for each in tool.configs if each.name and each.enabled is not None}
            return any(on and name in IN_WORKSPACE for name, on in enabled.items())
        case _:
            return False
