from types import SimpleNamespace
from typing import cast

import pytest
from temporalio.client import Client

from sojourn.client.validation import (
    check_definition,
    check_environment,
    check_events,
    check_session_id,
    check_size,
)
from sojourn.types.agent import AgentDefinition
from sojourn.types.content import ImageBlock, TextBlock, UrlSource
from sojourn.types.converter import data_converter
from sojourn.types.environment import SandboxConfig
from sojourn.types.error import InvalidRequestError, PayloadTooLargeError
from sojourn.types.event import (
    SystemMessage,
    UserDefineOutcome,
    UserEvent,
    UserInterrupt,
    UserMessage,
)
from sojourn.types.id import EventId
from sojourn.types.need import Need, needs_of
from sojourn.types.payload import INLINE_LIMIT_BYTES
from sojourn.types.session import EnvironmentConfig
from sojourn.types.wire import parse

CLIENT = cast(Client, SimpleNamespace(data_converter=data_converter))
"""All that measuring needs of a client."""


def refused(*events: UserEvent) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as error:
        check_events(events)
    return error.value


def test_events_get_ids_and_keep_those_they_have() -> None:
    named, unnamed = check_events([UserMessage.text("hi", id="sevt_mine"), UserInterrupt()])

    assert named == UserMessage.text("hi", id="sevt_mine")
    assert unnamed.id.startswith("sevt_")


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_message_without_words_is_refused_by_its_place(text: str) -> None:
    assert refused(UserInterrupt(), UserMessage.text(text)).param == "events.1.content"
    assert refused(SystemMessage(content=(TextBlock(text=text),))).param == "events.0.content"


def test_picture_needs_no_words() -> None:
    picture = UserMessage(content=(TextBlock(text=" "), ImageBlock(source=UrlSource(url="https://pictures.test/1"))))

    (checked,) = check_events([picture])

    assert isinstance(checked, UserMessage)
    assert checked.content == picture.content


def test_event_that_no_session_understands_yet_is_refused() -> None:
    assert "events.0" in str(refused(UserDefineOutcome(description="done", rubric=TextBlock(text="r"))))


def test_two_events_of_one_id_are_refused() -> None:
    assert refused(UserInterrupt(id=EventId("a")), UserMessage.text("hi", id="a")).param == "events"


@pytest.mark.parametrize("id", ["order-7", "a", "7", "sesn_0123", "a.b:c_d-e", "x" * 128])
def test_session_id_of_plain_characters_is_taken(id: str) -> None:
    assert check_session_id(id) == id


@pytest.mark.parametrize("id", ["", "a/b", "with space", "-a", "ä", "a\n", "x" * 129])
def test_session_id_that_would_break_a_workflow_id_is_refused(id: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        check_session_id(id)

    assert error.value.param == "session_id"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {
                "mcp_servers": [{"name": "docs", "url": "ftp://docs.test"}],
                "tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}],
            },
            "mcp_servers.0.url",
        ),
        ({"skills": [{"skill_id": "pdf"}]}, "skills"),
    ],
    ids=["mcp", "skills"],
)
def test_definition_that_no_worker_can_honour_is_refused(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        check_definition(parse(AgentDefinition, {"name": "a", "model": "scripted:echo", **fields}))

    assert error.value.param == param


def test_definition_with_mcp_servers_is_taken() -> None:
    servers = [{"name": "docs", "url": "https://docs.test"}, {"type": "stdio", "name": "local"}]
    tools = [{"type": "mcp_toolset", "mcp_server_name": each["name"]} for each in servers]

    check_definition(
        parse(AgentDefinition, {"name": "a", "model": "scripted:echo", "mcp_servers": servers, "tools": tools})
    )


def test_plain_definition_is_taken() -> None:
    check_definition(parse(AgentDefinition, {"name": "a", "model": "scripted:echo", "tools": ["search"]}))


@pytest.mark.parametrize(
    ("environment", "param"),
    [
        (EnvironmentConfig(env_vars={"1A": "1"}), "environment.env_vars"),
        (EnvironmentConfig(env_vars={"A": "\0"}), "environment.env_vars"),
        (EnvironmentConfig(env_vars={"A=B": ""}), "environment.env_vars"),
        (EnvironmentConfig(working_dir="/srv"), "environment.working_dir"),
        (EnvironmentConfig(working_dir="/mnt/session/uploads/a"), "environment.working_dir"),
        (EnvironmentConfig(working_dir="a/../../etc"), "environment.working_dir"),
        (EnvironmentConfig(working_dir=""), "environment.working_dir"),
    ],
    ids=["digit", "nul", "sign", "elsewhere", "read-only", "up", "empty"],
)
def test_environment_that_no_sandbox_can_have_is_refused(environment: EnvironmentConfig, param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        check_environment(environment)

    assert error.value.param == param


@pytest.mark.parametrize(
    "path", ["src", "src/app", "/workspace", "/workspace/a", "/home/agent", "/mnt/session/outputs"]
)
def test_working_directory_where_the_agent_may_write_is_taken(path: str) -> None:
    check_environment(EnvironmentConfig(env_vars={"A_1": "x y"}, working_dir=path))


def test_every_field_of_an_environment_is_looked_at() -> None:
    """A field added later must not be ignored in silence."""
    full = EnvironmentConfig(env_vars={"A": "1"}, working_dir="src")

    assert full.model_fields_set == set(EnvironmentConfig.model_fields)
    assert needs_of((), full, None) == (Need("sandbox", "environment.env_vars"),)
    assert needs_of((), EnvironmentConfig(), None) == ()


@pytest.mark.parametrize(
    ("tools", "sandbox", "needs"),
    [
        ([{"type": "agent_toolset_20260401"}], None, ["sandbox tools.0"]),
        (["add", {"type": "code_execution"}], None, ["sandbox tools.1"]),
        ([{"type": "agent_toolset_20260401", "default_config": {"enabled": False}}], None, []),
        (
            [
                {
                    "type": "agent_toolset_20260401",
                    "default_config": {"enabled": False},
                    "configs": [{"name": "web_fetch", "enabled": True}],
                }
            ],
            None,
            [],
        ),
        ([{"type": "agent_toolset_20260401"}], {"type": "self_hosted"}, []),
        ([], {"type": "cloud"}, []),
        ([], {"type": "cloud", "networking": {"type": "limited"}}, ["sandbox environment_id"]),
        ([], {"type": "cloud", "packages": {"pip": ["a"]}}, ["sandbox environment_id", "pip environment_id"]),
    ],
    ids=["toolset", "code", "off", "web-only", "self-hosted", "plain", "limited", "packages"],
)
def test_what_needs_a_sandbox_is_known(tools: list[object], sandbox: object, needs: list[str]) -> None:
    definition: AgentDefinition = parse(AgentDefinition, {"name": "a", "model": "scripted:echo", "tools": tools})
    config = parse(SandboxConfig, sandbox) if sandbox else None

    found = needs_of(definition.tools, EnvironmentConfig(), config)

    assert [f"{need.what} {need.field}" for need in found] == needs


async def test_value_that_fits_is_returned_as_it_goes_to_the_server() -> None:
    (payload,) = await check_size(CLIENT, UserMessage.text("hi"))

    assert payload.data == b'{"type":"user.message","content":[{"type":"text","text":"hi"}]}'


async def test_value_over_the_servers_limit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(PayloadTooLargeError) as error:
        await check_size(CLIENT, UserMessage.text("x" * INLINE_LIMIT_BYTES))

    assert error.value.limit_bytes == INLINE_LIMIT_BYTES
    assert error.value.size_bytes > INLINE_LIMIT_BYTES


async def test_value_just_under_the_limit_is_taken() -> None:
    assert await check_size(CLIENT, UserMessage.text("x" * (INLINE_LIMIT_BYTES - 200)))
