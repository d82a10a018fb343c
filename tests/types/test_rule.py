"""What rules say of calls: strict where they allow, generous where they ask or deny."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from sojourn.types.permission import PermissionPolicy, enforced, evaluate
from sojourn.types.rule import MAX_RULE, Rule, ToolUse, exact_rule, read_rule
from sojourn.types.url import Url
from sojourn.types.wire import parse

NOTHING = PermissionPolicy()


def use(name: str, **input: JsonValue) -> ToolUse:
    return ToolUse(name, input)


def allowed(rule: str, call: ToolUse) -> bool:
    policy = PermissionPolicy.of(allow=[rule], default="ask")
    return evaluate(call, session=policy, agent=NOTHING, worker=NOTHING) == "allow"


def denied(rule: str, call: ToolUse) -> bool:
    policy = PermissionPolicy.of(deny=[rule])
    return evaluate(call, session=policy, agent=NOTHING, worker=NOTHING) == "deny"


# --- paths ---------------------------------------------------------------------------------------------------------

PATHS = [
    ("/workspace/a.py", True),
    ("/workspace/a/b/c.py", True),
    ("a.py", True),
    ("./a.py", True),
    ("a/../b.py", True),
    ("/workspace", True),
    ("/workspace/", True),
    ("//workspace//a.py", True),
    ("/workspace/./a.py", True),
    ("/etc/../workspace/a.py", True),
    ("/workspace/../etc/passwd", False),
    ("/workspace/a/../../etc/passwd", False),
    ("../etc/passwd", False),
    ("a/../../etc/passwd", False),
    ("/workspaces/a.py", False),
    ("/workspace.py", False),
    ("/", False),
    ("/etc/passwd", False),
    ("~/a.py", False),
    ("~", False),
    ("~root/a.py", False),
    ("", False),
    ("/workspace/\0", False),
]


@pytest.mark.parametrize(("path", "expected"), PATHS)
def test_a_rule_about_a_folder_holds_below_it_only(path: str, expected: bool) -> None:
    assert allowed("write(/workspace/**)", use("write", file_path=path)) is expected
    assert allowed("read(**)", use("read", file_path=path)) is expected


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/workspace/../etc/passwd", "../etc/x", "//etc//passwd", "/etc", "~x/a", ""]
)
def test_a_denied_folder_is_denied_however_it_is_written(path: str) -> None:
    assert denied("write(/etc/**)", use("write", file_path=path))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "a.py", True),
        ("*.py", "a/b.py", False),
        ("**/*.py", "a/b.py", True),
        ("**/*.py", "b.py", True),
        ("src/*/x", "src/a/x", True),
        ("src/*/x", "src/a/b/x", False),
        ("src/**/x", "src/a/b/x", True),
        ("src/**/x", "src/x", True),
        ("a?.py", "ab.py", True),
        ("a?.py", "a/.py", False),
        (r"a\*.py", "a*.py", True),
        (r"a\*.py", "ab.py", False),
        ("~/notes/*", "/home/agent/notes/a", True),
        ("~/notes/*", "~/notes/a", True),
        ("[a].py", "a.py", False),
        ("[a].py", "[a].py", True),
        ("a.py", "aXpy", False),
    ],
)
def test_stars_of_paths(pattern: str, path: str, expected: bool) -> None:
    assert allowed(f"edit({pattern})", use("edit", file_path=path)) is expected


def test_relative_paths_are_below_the_working_directory() -> None:
    call = ToolUse("write", {"file_path": "a"}, cwd="/workspace/project")

    assert allowed("write(/workspace/project/*)", call)
    assert not allowed("write(/workspace/*)", call)


def test_searching_a_folder_is_as_denied_as_what_is_below_it() -> None:
    assert denied("grep(/workspace/secret/**)", use("grep", pattern="key"))
    assert denied("grep(/workspace/secret/**)", use("grep", pattern="key", path="/"))
    assert not denied("grep(/workspace/secret/**)", use("grep", pattern="key", path="/workspace/open"))


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../etc/*", "~/*"])
def test_a_glob_that_leads_out_of_its_folder_is_not_allowed(pattern: str) -> None:
    assert allowed("glob(/workspace/**)", use("glob", pattern="*.py"))
    assert not allowed("glob(/workspace/**)", use("glob", pattern=pattern))
    assert denied("glob(/etc/**)", use("glob", pattern=pattern))


# --- addresses -----------------------------------------------------------------------------------------------------

URLS = [
    ("https://docs.example.com/", True),
    ("https://docs.example.com", True),
    ("https://docs.example.com/a/b?c=d#e", True),
    ("HTTPS://DOCS.EXAMPLE.COM/a", True),
    ("https://docs.example.com:443/a", True),
    ("https://docs.example.com./a", True),
    ("http://docs.example.com/a", False),
    ("https://docs.example.com:8443/a", False),
    ("https://docs.example.com@evil.test/a", False),
    ("https://docs.example.com:x@evil.test/a", False),
    ("https://docs.example.com.evil.test/a", False),
    ("https://evil.test/https://docs.example.com/", False),
    ("https://evil.test?https://docs.example.com/", False),
    ("https://evil.test#docs.example.com/", False),
    ("https://docs.example.com\\@evil.test/", False),
    ("https://evil.test\\.docs.example.com/", False),
    ("https://xdocs.example.com/", False),
    ("https:/docs.example.com/", False),
    ("https:docs.example.com/", False),
    ("//docs.example.com/", False),
    ("docs.example.com", False),
    ("https://docs.example.com /", False),
    ("https://docs.example.com\t/", False),
    ("https://docs.example.com%2f@evil.test/", False),
    ("https://docs。example.com/", False),
    ("ftp://docs.example.com/", False),
    ("file:///etc/passwd", False),
    ("javascript:alert(1)", False),
    ("", False),
]


@pytest.mark.parametrize(("url", "expected"), URLS)
def test_a_rule_about_a_host_holds_for_this_host_only(url: str, expected: bool) -> None:
    assert allowed("web_fetch(https://docs.example.com/*)", use("web_fetch", url=url)) is expected


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("https://*.example.com/*", "https://a.b.example.com/x", True),
        ("https://*.example.com/*", "https://example.com/x", False),
        ("https://*.example.com/*", "https://evil.test/.example.com/", False),
        ("https://example.com", "https://example.com/any/thing", True),
        ("example.com/*", "http://example.com/x", True),
        ("example.com/*", "https://example.com/x", True),
        ("https://example.com/docs/*", "https://example.com/docs/../admin", False),
        ("https://example.com/docs/*", "https://example.com/docs/%2e%2e/admin", False),
        ("https://example.com/docs/*", "https://example.com/docs/a", True),
        ("https://example.com:*/x", "https://example.com:99/x", True),
        ("http://[::1]/*", "http://[::1]/x", True),
    ],
)
def test_patterns_of_addresses(pattern: str, url: str, expected: bool) -> None:
    assert allowed(f"web_fetch({pattern})", use("web_fetch", url=url)) is expected


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "http://2852039166/", "http://0xa9fea9fe/", "http://169.254.43518/", "nonsense"]
)
def test_an_address_that_may_be_another_is_denied(url: str) -> None:
    assert denied("web_fetch(http://169.254.169.254/*)", use("web_fetch", url=url))


@given(st.text(alphabet="abc/.%2eE?#-:", max_size=30))
def test_a_normal_address_stays_as_it_is(path: str) -> None:
    url = Url.of(f"https://example.com/{path}")

    assert url is None or Url.of(str(url)) == url


# --- other tools ---------------------------------------------------------------------------------------------------


def test_named_arguments_are_all_to_be_of_their_form() -> None:
    rule = "deploy(stage=test*, region=eu)"

    assert allowed(rule, use("deploy", stage="test-1", region="eu", force=True))
    assert not allowed(rule, use("deploy", stage="test-1", region="us"))
    assert not allowed(rule, use("deploy", stage="test-1"))
    assert not allowed(rule, use("deploy", stage="live", region="eu"))
    assert denied(rule, use("deploy", stage="test-1"))
    assert allowed("deploy(count=3)", use("deploy", count=3))


def test_an_object_is_all_arguments_exactly() -> None:
    rule = 'pay({"amount": 3, "to": "ada"})'

    assert allowed(rule, use("pay", to="ada", amount=3))
    assert not allowed(rule, use("pay", to="ada", amount=3, tip=1))
    assert not allowed(rule, use("pay", to="ada", amount="3"))


def test_a_rule_may_name_tools_by_a_pattern() -> None:
    assert allowed("mcp__github__*", use("mcp__github__list"))
    assert not allowed("mcp__github__*", use("mcp__gitlab__list"))
    assert allowed("*", use("anything"))


def test_a_search_is_compared_as_text() -> None:
    assert allowed("web_search(python *)", use("web_search", query="python typing"))
    assert not allowed("web_search(python *)", use("web_search", query="how to rob python"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "at least 1 character"),
        ("bash(", "is no rule"),
        ("bash)(", "is no rule"),
        ("ba sh", "is no rule"),
        ("deploy(test)", "name the arguments"),
        ("write(/a/*/../b)", "no pattern of a path"),
        ("write(~root/**)", "no pattern of a path"),
        ("web_fetch(https://a b/)", "no pattern of an address"),
        ("web_fetch(ftp://a/)", "no pattern of an address"),
        ("code_execution(print*)", "code cannot be judged"),
        ("ba*(command=git *)", "name one tool"),
        ("*(path=/x)", "name one tool"),
        ("x" * (MAX_RULE + 1), "at most"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Rule(rule=text, permission="allow")


def test_the_error_of_a_policy_from_outside_names_the_path() -> None:
    with pytest.raises(Exception, match="is no rule") as error:
        parse(PermissionPolicy, {"rules": [{"rule": "bash", "permission": "ask"}, {"rule": "(", "permission": "ask"}]})

    assert getattr(error.value, "param", "") == "rules.1.rule"


# --- order ---------------------------------------------------------------------------------------------------------


def evaluated(
    call: ToolUse,
    *,
    session: PermissionPolicy = NOTHING,
    agent: PermissionPolicy = NOTHING,
    worker: PermissionPolicy = NOTHING,
    everywhere: PermissionPolicy = NOTHING,
) -> str:
    return evaluate(call, session=session, agent=agent, worker=worker, everywhere=everywhere)


PUSH = use("bash", command="git push")


def test_a_deny_beats_what_is_narrower_and_nearer() -> None:
    for scope in ("session", "agent", "worker", "everywhere"):
        policies = {scope: PermissionPolicy.of(deny=["bash"])}
        if scope != "session":
            policies["session"] = PermissionPolicy.of(allow=["bash(git push)"])
        assert evaluated(PUSH, **policies) == "deny"


def test_the_narrowest_rule_wins_then_the_nearest() -> None:
    allow, ask = PermissionPolicy.of(allow=["bash(git *)"]), PermissionPolicy.of(ask=["bash"])

    assert evaluated(PUSH, session=ask, worker=allow) == "allow"
    assert evaluated(PUSH, session=PermissionPolicy.of(ask=["bash(git *)"]), agent=allow) == "ask"
    assert evaluated(PUSH, session=allow, agent=PermissionPolicy.of(ask=["bash(git push*)"])) == "allow"
    assert (
        evaluated(PUSH, everywhere=PermissionPolicy.of(ask=["bash"]), worker=PermissionPolicy.of(allow=["bash"]))
        == "ask"
    )


def test_in_one_policy_ask_beats_allow_where_both_are_as_narrow() -> None:
    policy = PermissionPolicy.of(allow=["bash(git *)"], ask=["bash(git push*)"])

    assert evaluated(PUSH, agent=policy) == "ask"
    assert evaluated(use("bash", command="git log"), agent=policy) == "allow"


def test_the_tools_own_setting_gives_way_to_a_rule_about_arguments() -> None:
    policy = PermissionPolicy.of(allow=["bash(git *)"])

    assert evaluate(PUSH, configured="ask", session=policy, agent=NOTHING, worker=NOTHING) == "allow"
    assert evaluate(PUSH, configured="deny", session=policy, agent=NOTHING, worker=NOTHING) == "deny"
    assert evaluate(PUSH, declared="ask", session=NOTHING, agent=NOTHING, worker=NOTHING) == "ask"


def test_skipping_permissions_leaves_what_operators_deny() -> None:
    deny, ask = PermissionPolicy.of(deny=["bash(git push)"]), PermissionPolicy.of(ask=["bash"])

    assert enforced(PUSH, declared=None, worker=deny, everywhere=NOTHING) == "deny"
    assert enforced(PUSH, declared=None, worker=NOTHING, everywhere=deny) == "deny"
    assert enforced(PUSH, declared="ask", worker=ask, everywhere=ask) == "allow"


# --- the very same call --------------------------------------------------------------------------------------------

VALUES = st.dictionaries(
    st.sampled_from(["a", "b", "url", "command"]), st.text(max_size=8) | st.integers() | st.none(), max_size=3
)
COMMANDS = st.text(alphabet=" abgit*?\\;|&$(){}=,'\"`\n", min_size=1, max_size=20)


@given(COMMANDS, COMMANDS)
def test_a_remembered_command_allows_itself_and_no_other(command: str, other: str) -> None:
    rule = exact_rule(use("bash", command=command))

    assert rule is not None
    assert allowed(rule.rule, use("bash", command=command))
    assert read_rule(rule.rule).rank == 3
    if " ".join(command.split()) != " ".join(other.split()) and not any(mark in other for mark in "'\"\\;|&\n"):
        assert not allowed(rule.rule, use("bash", command=other))


@given(st.sampled_from(["read", "write", "edit"]), st.text(alphabet="ab/.*?\\~[", min_size=1, max_size=12))
def test_a_remembered_path_allows_itself(tool: str, path: str) -> None:
    rule = exact_rule(use(tool, file_path=path))

    assert rule is not None
    assert allowed(rule.rule, use(tool, file_path=path))
    assert read_rule(rule.rule).rank == 3
    assert not allowed(rule.rule, use(tool, file_path=path + "c"))


@given(st.sampled_from(["deploy", "web_fetch", "mcp__a__b", "grep", "code_execution"]), VALUES)
def test_a_remembered_call_allows_itself_and_nothing_with_more(tool: str, input: dict[str, JsonValue]) -> None:
    rule = exact_rule(ToolUse(tool, input))

    assert rule is not None
    assert allowed(rule.rule, ToolUse(tool, input))
    assert not allowed(rule.rule, ToolUse(tool, {**input, "more": 1})) or tool == "web_fetch"
    assert not allowed(rule.rule, ToolUse("other", input))


def test_a_call_that_is_too_long_is_not_remembered() -> None:
    assert exact_rule(use("bash", command="x" * MAX_RULE)) is None
