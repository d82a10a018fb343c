"""The rules of a workspace, and changes of them."""

import pytest

from sojourn.types.error import InvalidRequestError
from sojourn.types.id import AgentId
from sojourn.types.permission import PermissionPolicy
from sojourn.types.policy import MAX_CHARACTERS, MAX_RULES, PolicyChange, WorkspacePolicy
from sojourn.types.rule import Rule

ADA = AgentId("agent_ada")


def rule(text: str, permission: str = "allow") -> Rule:
    return Rule.model_validate({"rule": text, "permission": permission})


def test_a_rule_that_is_there_is_not_added_again() -> None:
    once = PolicyChange(add=(rule("a"), rule("b"))).applied(WorkspacePolicy())

    assert PolicyChange(add=(rule("a"),)).applied(once) == once


def test_a_rule_of_the_same_text_says_what_was_said_last() -> None:
    once = PolicyChange(add=(rule("a"), rule("b"))).applied(WorkspacePolicy())

    assert PolicyChange(add=(rule("a", "deny"),)).applied(once).policy.rules == (rule("b"), rule("a", "deny"))


def test_rules_of_an_agent_are_its_own_and_leave_nothing_behind() -> None:
    made = PolicyChange(add=(rule("a"),), agent_id=ADA).applied(WorkspacePolicy())

    assert made.of_agent(ADA) == (rule("a"),)
    assert made.policy.rules == ()
    assert PolicyChange(remove=("a",), agent_id=ADA).applied(made) == WorkspacePolicy()


def test_another_policy_leaves_what_agents_were_allowed() -> None:
    made = PolicyChange(add=(rule("a"),), agent_id=ADA).applied(WorkspacePolicy())
    policy = PermissionPolicy(default="ask")

    assert PolicyChange(policy=policy).applied(made) == made.model_copy(update={"policy": policy})


def test_rules_are_no_more_than_every_step_can_read() -> None:
    many = tuple(rule(f"tool_{number}") for number in range(MAX_RULES + 1))
    long = tuple(rule(f"bash({number}{'x' * 30_000})") for number in range(MAX_CHARACTERS // 30_000 + 1))

    for rules in (many, long):
        with pytest.raises(InvalidRequestError, match="a workspace keeps"):
            PolicyChange(add=rules).applied(WorkspacePolicy())
