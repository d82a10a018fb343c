from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sojourn.types import (
    CloudConfig,
    Environment,
    EnvironmentChange,
    EnvironmentDefinition,
    EnvironmentId,
    InvalidRequestError,
    LimitedNetwork,
    Packages,
    SelfHostedConfig,
    UnrestrictedNetwork,
    data_converter,
    parse,
)
from sojourn.types.environment import DELETION, EnvironmentMemo

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def environment(**fields: Any) -> Environment:
    return Environment(id=EnvironmentId("env_1"), created_at=NOW, updated_at=NOW, **({"name": "python"} | fields))


def changed(before: Environment, **fields: Any) -> Environment:
    """The environment after a change as it comes from outside, and over the wire."""
    change: EnvironmentChange = parse(EnvironmentChange, fields)
    converter = data_converter.payload_converter
    travelled = converter.from_payload(converter.to_payload(change), EnvironmentChange)

    assert travelled.model_fields_set == change.model_fields_set
    return travelled.applied(before)


def test_an_environment_asks_for_nothing_by_default() -> None:
    definition: EnvironmentDefinition = parse(EnvironmentDefinition, {"name": "python"})

    assert definition.config == CloudConfig(networking=UnrestrictedNetwork(), packages=Packages())
    assert definition.scope == "organization"


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "n" * 257}, "name"),
        ({"name": "n", "description": "d" * 2049}, "description"),
        ({"name": "n", "scope": "account"}, "scope"),
        ({"name": "n", "metadata": {"k": 1}}, "metadata.k"),
        ({"name": "n", "config": {"type": "basement"}}, "config"),
        ({"name": "n", "config": {"type": "self_hosted", "packages": {}}}, "config.self_hosted.packages"),
        ({"name": "n", "config": {"type": "cloud", "networking": {"type": "none"}}}, "config.cloud.networking"),
        ({"name": "n", "config": {"type": "cloud", "packages": {"conda": []}}}, "config.cloud.packages.conda"),
        ({"name": "n", "config": {"type": "cloud", "packages": {"pip": "x"}}}, "config.cloud.packages.pip"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_path(definition: object, path: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(EnvironmentDefinition, definition)

    assert error.value.param == path


@pytest.mark.parametrize("host", ["example.com", "*.example.com", "localhost", "a-b.c", "10.0.0.1", "xn--bcher-kva.de"])
def test_a_bare_host_is_taken(host: str) -> None:
    assert LimitedNetwork(allowed_hosts=(host,)).allowed_hosts == (host,)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "*",
            "*.",
            "a..b",
            "-a.com",
            "a.*.com",
            "a b",
            "é.com",
            "example.com\n",
            "x" * 64,
            ".".join(["abc"] * 64),
        ),
        *("https://example.com", "example.com:443", "example.com/path", "user@example.com", "[::1]"),
    ],
)
def test_what_is_no_bare_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(LimitedNetwork, {"type": "limited", "allowed_hosts": ["fine.com", host]})

    assert error.value.param == "allowed_hosts.1"


@pytest.mark.parametrize("package", ["pandas==2.2.0", "@types/node@20", "golang.org/x/tools@latest", "libssl3=3.0-1"])
def test_a_package_is_taken_as_its_manager_names_it(package: str) -> None:
    assert Packages(npm=(package,)).count == 1


@pytest.mark.parametrize("package", ["", "--index-url=http://evil", "two words", "a\nb", "x" * 257, "-r", "päckchen"])
def test_what_is_no_package_is_refused(package: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(Packages, {"pip": [package]})

    assert error.value.param == "pip.0"


def test_too_many_packages_are_refused() -> None:
    many = tuple(f"package{number}" for number in range(200))

    with pytest.raises(InvalidRequestError) as error:
        parse(Packages, {"apt": many, "pip": many})

    assert "400 packages" in str(error.value)


def test_packages_need_a_network_to_come_from() -> None:
    limited = {"type": "limited", "allowed_hosts": ["example.com"]}
    config = {"type": "cloud", "networking": limited, "packages": {"pip": ["pandas"]}}

    with pytest.raises(InvalidRequestError) as error:
        parse(EnvironmentDefinition, {"name": "n", "config": config})

    assert "allow_package_managers" in str(error.value)
    limited["allow_package_managers"] = True  # type: ignore[assignment]
    assert parse(EnvironmentDefinition, {"name": "n", "config": config}).config.packages.count == 1


def test_what_a_change_leaves_out_stays() -> None:
    before = environment(description="d", metadata={"a": "1"}, config=CloudConfig(packages=Packages(pip=("pandas",))))

    assert changed(before) == before
    assert changed(before, name=None, config=None, scope=None, metadata=None) == before
    assert changed(before, name="other") == before.model_copy(update={"name": "other"})
    assert changed(before, config={"type": "cloud"}) == before
    assert changed(before, config={"type": "cloud", "networking": None, "packages": None}) == before


def test_a_description_is_removed_by_none_and_kept_empty() -> None:
    before = environment(description="d")

    assert changed(before, description=None).description is None
    assert changed(before, description="").description == ""


def test_metadata_is_merged_and_removed_by_none_or_nothing() -> None:
    before = environment(metadata={"a": "1", "b": "2", "c": "3"})

    assert changed(before, metadata={"a": None, "b": "", "d": "4"}).metadata == {"c": "3", "d": "4"}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"k" * 65: "v"}, f"metadata.{'k' * 65}.[key]"),
        ({"k": "v" * 513}, "metadata.k"),
        ({f"k{n}": "v" for n in range(17)}, "metadata"),
    ],
)
def test_metadata_over_its_bounds_after_the_merge_is_refused(patch: dict[str, str], path: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        changed(environment(metadata={"there": "before"}), metadata=patch)

    assert error.value.param == path
    assert error.value.code == "invalid_metadata"


def test_limited_networking_keeps_what_a_change_leaves_out() -> None:
    network = LimitedNetwork(allowed_hosts=("a.com",), allow_mcp_servers=True)
    before = environment(config=CloudConfig(networking=network))

    limited = {"type": "limited", "allow_package_managers": True, "allowed_hosts": None}
    after = changed(before, config={"type": "cloud", "networking": limited})

    assert after.config == CloudConfig(networking=network.model_copy(update={"allow_package_managers": True}))
    assert changed(after, config={"type": "cloud", "networking": {"type": "unrestricted"}}).config == CloudConfig()


def test_networking_that_becomes_limited_begins_with_nothing_allowed() -> None:
    after = changed(environment(), config={"type": "cloud", "networking": {"type": "limited"}})

    assert after.config == CloudConfig(networking=LimitedNetwork())


def test_packages_are_replaced_as_a_whole() -> None:
    before = environment(config=CloudConfig(packages=Packages(pip=("pandas",), apt=("git",))))

    after = changed(before, config={"type": "cloud", "packages": {"type": "packages", "npm": ["left-pad"]}})

    assert after.config == CloudConfig(packages=Packages(npm=("left-pad",)))


def test_a_change_that_leaves_packages_without_a_network_is_refused() -> None:
    before = environment(config=CloudConfig(packages=Packages(pip=("pandas",))))

    with pytest.raises(InvalidRequestError) as error:
        changed(before, config={"type": "cloud", "networking": {"type": "limited"}})

    assert error.value.param == "config"


@pytest.mark.parametrize(
    ("config", "change"), [(CloudConfig(), "self_hosted"), (SelfHostedConfig(), "cloud")], ids=["cloud", "self_hosted"]
)
def test_the_type_of_a_config_cannot_change(config: Any, change: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        changed(environment(config=config), config={"type": change})

    assert (error.value.param, error.value.code) == ("config.type", "invalid_config_type_change")


def test_a_deletion_that_was_cut_off_lets_go() -> None:
    memo = EnvironmentMemo(environment=environment(), deleting_at=NOW)

    assert memo.is_held(NOW + timedelta(seconds=1))
    assert not memo.is_held(NOW + DELETION)
    assert not EnvironmentMemo(environment=environment()).is_held(NOW)
