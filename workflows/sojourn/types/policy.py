"""The rules of a workspace: they hold for all its sessions, and change while these run."""

from datetime import datetime

from pydantic import Field

from sojourn.types.error import InvalidRequestError
from sojourn.types.id import AgentId
from sojourn.types.permission import PermissionPolicy
from sojourn.types.rule import Rule
from sojourn.types.wire import Wire

MAX_RULES = 1000
"""In all, and `MAX_CHARACTERS`: every model step reads them, out of one memo."""
MAX_CHARACTERS = 200_000


class WorkspacePolicy(Wire):
    """The rules of a workspace as stored."""

    policy: PermissionPolicy = PermissionPolicy()
    """For all sessions."""
    agents: dict[AgentId, tuple[Rule, ...]] = {}
    """For all sessions of one agent: what somebody has allowed it for good."""
    version: int = Field(default=0, ge=0)
    """Counts the changes; 0 where nothing was ever said."""
    updated_at: datetime | None = None

    def of_agent(self, agent_id: AgentId) -> tuple[Rule, ...]:
        """The rules for one agent."""
        return self.agents.get(agent_id, ())


class PolicyChange(Wire):
    """A change of the rules."""

    policy: PermissionPolicy | None = None
    """In place of the one for all sessions; ``None`` leaves it."""
    add: tuple[Rule, ...] = ()
    remove: tuple[str, ...] = ()
    """Texts of rules; one that is not there is passed over."""
    agent_id: AgentId | None = None
    """For whom rules are added and removed; ``None`` is all sessions."""
    version: int | None = None
    """The version the caller has seen; another one is refused. ``None`` means last write wins."""

    def applied(self, now: WorkspacePolicy) -> WorkspacePolicy:
        """The rules after the change; the same ones if nothing differs. Version and time are not touched.

        Raises:
            InvalidRequestError: They would be too many.
        """
        changed = now if self.policy is None else now.model_copy(update={"policy": self.policy})
        if self.agent_id is None:
            rules = self._changed(changed.policy.rules)
            changed = changed.model_copy(update={"policy": changed.policy.model_copy(update={"rules": rules})})
        else:
            agents = {**changed.agents, self.agent_id: self._changed(changed.of_agent(self.agent_id))}
            changed = changed.model_copy(update={"agents": {id: rules for id, rules in agents.items() if rules}})
        _check(changed)
        return changed

    def _changed(self, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        # A rule that is added again says what it says now.
        gone = {*self.remove, *(rule.rule for rule in self.add)}
        kept = tuple(rule for rule in rules if rule.rule not in gone or rule in self.add)
        return (*kept, *(rule for rule in dict.fromkeys(self.add) if rule not in kept))


def _check(policy: WorkspacePolicy) -> None:
    rules = [*policy.policy.rules, *(rule for rules in policy.agents.values() for rule in rules)]
    size = sum(len(rule.rule) for rule in rules)
    if len(rules) > MAX_RULES or size > MAX_CHARACTERS:
        text = f"{len(rules):,} rules of {size:,} characters; a workspace keeps {MAX_RULES:,} and {MAX_CHARACTERS:,}"
        raise InvalidRequestError(f"rules: {text}; remove some", param="rules")


class PolicyInput(Wire):
    """What a `PolicyWorkflow` run starts from."""

    workspace: str
    policy: WorkspacePolicy = WorkspacePolicy()
