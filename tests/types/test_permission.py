from itertools import product

import pytest

from sojourn.types.permission import Permission, PermissionPolicy, evaluate

NONE = PermissionPolicy()

# From the most specific rule to the least.
RULES = (
    "configured",
    "session_tool",
    "agent_tool",
    "worker_tool",
    "declared",
    "session_default",
    "agent_default",
    "worker_default",
)
ABOUT_THE_TOOL, DEFAULTS = RULES[:5], RULES[5:]
CHOICES: tuple[Permission | None, ...] = (None, "allow", "ask", "deny")


def policy(default: Permission | None, tool: Permission | None) -> PermissionPolicy:
    return PermissionPolicy(default=default, tools={} if tool is None else {"pay": tool})


def evaluated(rules: dict[str, Permission | None]) -> Permission:
    return evaluate(
        "pay",
        configured=rules.get("configured"),
        declared=rules.get("declared"),
        session=policy(rules.get("session_default"), rules.get("session_tool")),
        agent=policy(rules.get("agent_default"), rules.get("agent_tool")),
        worker=policy(rules.get("worker_default"), rules.get("worker_tool")),
    )


def test_nothing_said_means_allow() -> None:
    assert evaluate("pay", session=NONE, agent=NONE, worker=NONE) == "allow"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("choice", ["allow", "ask", "deny"])
def test_a_rule_alone_decides(rule: str, choice: Permission) -> None:
    assert evaluated({rule: choice}) == choice


@pytest.mark.parametrize("rule", ABOUT_THE_TOOL)
def test_deny_beats_every_other_rule_wherever_it_stands(rule: str) -> None:
    rules: dict[str, Permission | None] = dict.fromkeys(RULES, "allow")

    assert evaluated({**rules, rule: "deny"}) == "deny"


@pytest.mark.parametrize("rule", DEFAULTS)
def test_deny_beats_every_other_default_wherever_it_stands(rule: str) -> None:
    rules: dict[str, Permission | None] = dict.fromkeys(DEFAULTS, "allow")

    assert evaluated({**rules, rule: "deny"}) == "deny"


@pytest.mark.parametrize("rule", ABOUT_THE_TOOL)
def test_default_of_deny_has_exceptions(rule: str) -> None:
    rules: dict[str, Permission | None] = dict.fromkeys(DEFAULTS, "deny")

    assert evaluated({**rules, rule: "allow"}) == "allow"


@pytest.mark.parametrize("place", range(len(RULES) - 1))
@pytest.mark.parametrize(("wins", "loses"), [("allow", "ask"), ("ask", "allow")])
def test_more_specific_rule_wins(place: int, wins: Permission, loses: Permission) -> None:
    below: dict[str, Permission | None] = dict.fromkeys(RULES[place + 1 :], loses)

    assert evaluated({RULES[place]: wins, **below}) == wins


def test_every_combination_follows_the_order() -> None:
    for choices in product(CHOICES, repeat=len(RULES)):
        said = [choice for choice in choices[:5] if choice] or [choice for choice in choices[5:] if choice]
        expected = "deny" if "deny" in said else said[0] if said else "allow"
        if evaluated(dict(zip(RULES, choices, strict=True))) != expected:
            pytest.fail(f"{dict(zip(RULES, choices, strict=True))} is not {expected}")


def test_exception_for_another_tool_does_not_count() -> None:
    other = PermissionPolicy(tools={"refund": "deny"})

    assert evaluate("pay", session=other, agent=other, worker=other) == "allow"
