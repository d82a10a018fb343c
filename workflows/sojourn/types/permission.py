"""Who may run a tool: decided in code, never by the model."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from sojourn.types.rule import Permission, Rule, ToolUse, read_rule
from sojourn.types.shell import SimpleCommand
from sojourn.types.wire import Omitted, Wire

__all__ = ["Permission", "PermissionPolicy", "Rule", "ToolUse", "enforced", "evaluate"]

_SEVERITY: dict[Permission, int] = {"allow": 0, "ask": 1, "deny": 2}

_TOOL = 1
"""Rank of what is said about a tool by its name; see `ReadRule.rank`."""


class PermissionPolicy(Wire):
    """A default and exceptions; ``None`` leaves the decision to the next policy."""

    default: Permission | None = None
    tools: dict[str, Permission] = {}
    """Exceptions by the name of the tool."""
    rules: Annotated[tuple[Rule, ...], Omitted] = ()
    """Exceptions by patterns of tools and arguments, such as ``bash(git *)``."""

    @classmethod
    def of(
        cls,
        *,
        allow: Iterable[str] = (),
        ask: Iterable[str] = (),
        deny: Iterable[str] = (),
        default: Permission | None = None,
    ) -> "PermissionPolicy":
        """A policy of rules in their text form."""
        said: tuple[tuple[Permission, Iterable[str]], ...] = (("allow", allow), ("ask", ask), ("deny", deny))
        rules = tuple(Rule(rule=text, permission=permission) for permission, texts in said for text in texts)
        return cls(default=default, rules=rules)

    def for_tool(self, name: str) -> Permission | None:
        """The exception by name for this tool, if there is one."""
        return self.tools.get(name)

    def with_rules(self, rules: Iterable[Rule]) -> "PermissionPolicy":
        """The same with more rules."""
        more = tuple(rules)
        return self.model_copy(update={"rules": (*self.rules, *more)}) if more else self


NOTHING = PermissionPolicy()
ALLOW: Permission = "allow"


def evaluate(
    use: ToolUse | str,
    *,
    configured: Permission | None = None,
    declared: Permission | None = None,
    session: PermissionPolicy,
    agent: PermissionPolicy,
    worker: PermissionPolicy,
    everywhere: PermissionPolicy = NOTHING,
) -> Permission:
    """The permission that holds for one call.

    Rules about the call come before defaults, so that a default of ``deny`` with exceptions is a list of what is
    allowed. Among rules a deny beats all; then the narrowest wins (these very arguments, arguments by pattern, the
    tool, tools by pattern); among equally narrow ones the nearest: the tool's own configuration in the definition,
    the session's, the agent's, the workspace's and the worker's rule, and what the tool declared itself. Where one
    policy has two that are equally narrow, ask beats allow. The defaults of session, agent, workspace and worker go
    by the same: deny beats all, then the nearest. Nothing said means allow (design.md §4).

    A line of shell is as permitted as the least permitted command in it.

    Args:
        use: The call, or the name of the tool where arguments do not matter.
        configured: From the tool's entry in the agent's definition.
        declared: From ``@tool(permission=…)``.
        session: Rules given at session start, and those remembered since.
        agent: Rules of the agent's definition, and those remembered for the agent.
        worker: Rules of the process that runs the tools.
        everywhere: Rules of the workspace.
    """
    use = ToolUse(use) if isinstance(use, str) else use
    policies = (session, agent, everywhere, worker)
    held = [each for place, policy in enumerate(policies, 1) for each in _held(policy, use, place)]
    found: list[Permission] = [_of_unit(use, unit, configured, declared, policies, held) for unit in use.units]
    return max(found, key=lambda each: _SEVERITY[each])


def enforced(
    use: ToolUse, *, declared: Permission | None, worker: PermissionPolicy, everywhere: PermissionPolicy
) -> Permission:
    """The permission that holds for a call while the session skips permissions: what operators deny stays denied."""
    held = evaluate(use, declared=declared, session=NOTHING, agent=NOTHING, worker=worker, everywhere=everywhere)
    return "deny" if held == "deny" else "allow"


def _of_unit(
    use: ToolUse,
    unit: SimpleCommand | None,
    configured: Permission | None,
    declared: Permission | None,
    policies: Sequence[PermissionPolicy],
    held: Sequence[tuple[int, int, Permission]],
) -> Permission:
    said: list[tuple[int, int, Permission]] = list(held)
    if configured is not None:
        said.append((_TOOL, 0, configured))
    for place, policy in enumerate(policies, 1):
        if (exception := policy.for_tool(use.name)) is not None:
            said.append((_TOOL, place, exception))
        allowing = (read_rule(rule.rule) for rule in policy.rules if rule.permission == "allow")
        said.extend((rule.rank, place, ALLOW) for rule in allowing if rule.allows(use, unit))
    if declared is not None:
        said.append((_TOOL, len(policies) + 1, declared))
    if not said:
        return _decided([policy.default for policy in policies]) or "allow"
    if any(permission == "deny" for _, _, permission in said):
        return "deny"
    return min(said, key=_nearness)[2]


def _nearness(said: tuple[int, int, Permission]) -> tuple[int, int, int]:
    rank, place, permission = said
    return -rank, place, -_SEVERITY[permission]


def _held(policy: PermissionPolicy, use: ToolUse, place: int) -> Iterator[tuple[int, int, Permission]]:
    """The rules that restrict a call, with their rank; they hold for the whole of it."""
    for rule in policy.rules:
        if rule.permission != "allow" and (read := read_rule(rule.rule)).concerns(use):
            yield read.rank, place, rule.permission


def _decided(rules: Sequence[Permission | None]) -> Permission | None:
    return "deny" if "deny" in rules else next((rule for rule in rules if rule is not None), None)
