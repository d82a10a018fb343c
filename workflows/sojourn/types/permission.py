"""Who may run a tool: decided in code, never by the model."""

from typing import Literal

from sojourn.types.wire import Wire

Permission = Literal["allow", "ask", "deny"]


class PermissionPolicy(Wire):
    """A default and exceptions by tool name; ``None`` leaves the decision to the next rule."""

    default: Permission | None = None
    tools: dict[str, Permission] = {}

    def for_tool(self, name: str) -> Permission | None:
        """The exception for this tool, if there is one."""
        return self.tools.get(name)


def evaluate(
    name: str,
    *,
    configured: Permission | None = None,
    declared: Permission | None = None,
    session: PermissionPolicy,
    agent: PermissionPolicy,
    worker: PermissionPolicy,
) -> Permission:
    """The permission that holds for one call.

    A deny beats everything. Then the most specific rule wins: the tool's own configuration in the definition, the
    session's, the agent's and the worker's exception for the tool, what the tool declared itself, and then the three
    defaults in the same order. Nothing said means allow (design.md §4).

    Args:
        name: The tool's name.
        configured: From the tool's entry in the agent's definition.
        declared: From ``@tool(permission=…)``.
        session: Rules given at session start.
        agent: Rules of the agent's definition.
        worker: Rules of the process that runs the tools.
    """
    policies = (session, agent, worker)
    rules = [configured, *(policy.for_tool(name) for policy in policies), declared]
    rules += [policy.default for policy in policies]
    if "deny" in rules:
        return "deny"
    return next((rule for rule in rules if rule is not None), "allow")
