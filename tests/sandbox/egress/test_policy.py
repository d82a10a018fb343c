import pytest

from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress import AllowedHost, EgressPolicy
from sojourn.types.environment import LimitedNetwork, UnrestrictedNetwork


def test_unrestricted_network_reaches_every_port_but_that_of_mail() -> None:
    policy = EgressPolicy.of(UnrestrictedNetwork())

    assert policy.refusal("anything.example", 443) is None
    assert policy.refusal("anything.example", 22) is None
    assert "port 25" in (policy.refusal("anything.example", 25) or "")


def test_limited_network_reaches_what_is_named_and_nothing_else() -> None:
    policy = EgressPolicy.of(LimitedNetwork(allowed_hosts=("Api.example.com", "*.Wide.example")))

    for host in ("api.example.com", "x.wide.example", "a.b.wide.example"):
        assert policy.refusal(host, 443) is None
        assert policy.refusal(host, 80) is None
    for host in (
        "example.com",
        "x.api.example.com",
        "wide.example",
        "evilwide.example",
        "api.example.com.evil",
        "8.8.8.8",
    ):
        assert policy.refusal(host, 443) == f"{host} is not among networking.allowed_hosts of the environment"


def test_limited_network_has_the_two_ports_of_the_web() -> None:
    policy = EgressPolicy.of(LimitedNetwork(allowed_hosts=("a.example",)))

    assert (
        policy.refusal("a.example", 22) == "port 22 of a.example is closed; limited networking opens 80 and 443 of it"
    )


def test_limited_network_without_hosts_reaches_nothing() -> None:
    assert EgressPolicy.of(LimitedNetwork()).refusal("a.example", 443)


def test_port_that_the_operator_names_for_a_private_host_is_open_where_the_host_is_allowed() -> None:
    private = PrivateHosts.parse("git.internal:3000,wiki.internal:8080")
    policy = EgressPolicy.of(LimitedNetwork(allowed_hosts=("git.internal",)), private=private)

    assert policy.refusal("git.internal", 3000) is None
    assert policy.refusal("git.internal", 8080)
    assert policy.refusal("wiki.internal", 8080)


@pytest.mark.parametrize("allowed", [True, False])
def test_servers_and_registries_count_only_if_the_environment_allows_them(allowed: bool) -> None:
    policy = EgressPolicy.of(
        LimitedNetwork(allow_mcp_servers=allowed, allow_package_managers=allowed),
        mcp_servers=["https://mcp.example:8443/sse", "http://tools.example/mcp", "stdio:nothing"],
        package_hosts=[AllowedHost("registry.example")],
    )

    assert (policy.refusal("mcp.example", 8443) is None) is allowed
    assert (policy.refusal("tools.example", 80) is None) is allowed
    assert (policy.refusal("registry.example", 443) is None) is allowed
    port = "port 443 of mcp.example is closed; limited networking opens 8443 of it"
    nothing = "mcp.example is not among networking.allowed_hosts of the environment"
    assert policy.refusal("mcp.example", 443) == (port if allowed else nothing)


@pytest.mark.parametrize("url", ["ftp://x.example", "https://", "https://x:99999/", "https://127.1/", "nothing"])
def test_url_without_a_host_of_the_web_allows_nothing(url: str) -> None:
    assert AllowedHost.of_url(url) is None
