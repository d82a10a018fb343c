"""Who may run a tool: decided in code, never by the model."""

from collections.abc import Sequence
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

    Rules about the tool come before defaults, so that a default of ``deny`` with exceptions is a list of what is
    allowed. Among rules about the tool a deny beats all; then the most specific wins: the tool's own configuration in
    the definition, the session's, the agent's and the worker's exception for it, and what it declared itself. The
    defaults of session, agent and worker go by the same two principles. Nothing said means allow (design.md §4).

    Args:
        name: The tool's name.
        configured: From the tool's entry in the agent's definition.
        declared: From ``@tool(permission=…)``.
        session: Rules given at session start.
        agent: Rules of the agent's definition.
        worker: Rules of the process that runs the tools.
    """
    policies = (session, agent, worker)
    rules: list[Permission | None] = [configured, *(policy.for_tool(name) for policy in policies), declared]
    return _decided(rules) or _decided([policy.default for policy in policies]) or "allow"


def _decided(rules: Sequence[Permission | None]) -> Permission | None:
    return "deny" if "deny" in rules else next((rule for rule in rules if rule is not None), None)
