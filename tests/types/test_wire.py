"""Everything that crosses a process, whatever its type: generated from the models themselves, so none is forgotten."""

import types
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, JsonValue, SecretStr, ValidationError
from pydantic.fields import FieldInfo

import sojourn.types
from sojourn.types.agent import (
    AgentDefinition,
    AgentToolset,
    Compaction,
    CustomTool,
    FunctionTool,
    Limits,
    McpServer,
    McpToolset,
    ToolOptions,
)
from sojourn.types.converter import data_converter
from sojourn.types.credential import InjectionLocation
from sojourn.types.environment import CloudConfig, Packages, UnrestrictedNetwork
from sojourn.types.error import InvalidRequestError
from sojourn.types.event import SaidEvent, UnknownEvent, UserEvent, UserMessage
from sojourn.types.model import PROVIDERS, ModelRef, ModelSettings
from sojourn.types.question import AskUserInput, Option, Question
from sojourn.types.record import CallModelInput, Said, ToolCallPart
from sojourn.types.resource import BranchCheckout, CommitCheckout, FileMount, RepositoryMount
from sojourn.types.rule import Rule
from sojourn.types.schedule import CronSchedule
from sojourn.types.session import Owner, SessionInput, UpdateSessionInput
from sojourn.types.wire import Metadata, Wire, parse

converter = data_converter.payload_converter

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
scalars: dict[object, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    type(None): st.none(),
    object: json_values,
    datetime: st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)),
    AwareDatetime: st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)),
    # Secrets in a change are left off the wire.
    SecretStr: st.none(),
    timedelta: st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=10_000)),
}


def constraint(metadata: tuple[Any, ...], name: str) -> Any:
    flat = [inner for each in metadata for inner in (each.metadata if isinstance(each, FieldInfo) else [each])]
    return next((getattr(each, name) for each in flat if getattr(each, name, None) is not None), None)


def texts(metadata: tuple[Any, ...]) -> st.SearchStrategy[str]:
    pattern = constraint(metadata, "pattern")
    if pattern is not None:
        longest = constraint(metadata, "max_length") or 1000
        return st.from_regex(pattern.replace("$", r"\Z"), fullmatch=True).filter(lambda text: len(text) <= longest)
    return st.text(min_size=constraint(metadata, "min_length") or 0, max_size=40)


def values(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Values of a type as our models use types."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is JsonValue:
        return json_values
    if isinstance(annotation, NewType):
        return values(annotation.__supertype__, metadata)
    if origin is Annotated:
        return values(arguments[0], (*arguments[1:], *metadata))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([values(each, metadata) for each in arguments])
    if origin is tuple:
        return st.lists(values(arguments[0]), min_size=constraint(metadata, "min_length") or 0, max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if annotation is str:
        return texts(metadata)
    if annotation is int:
        return st.integers(min_value=constraint(metadata, "ge"), max_value=constraint(metadata, "le"))
    if annotation is float:
        return st.floats(min_value=constraint(metadata, "ge"), max_value=constraint(metadata, "le"), allow_nan=False)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return instances(annotation)
    return scalars[annotation]


def field_values(field: FieldInfo) -> st.SearchStrategy[Any]:
    found = values(field.annotation, tuple(field.metadata))
    leave_off: Any = field.exclude_if
    if leave_off is None:
        return found
    # An optional field that is left off while empty does not tell an empty text from none.
    return found.map(lambda value: field.default if leave_off(value) else value)


def instances(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    return SPECIAL[kind] if kind in SPECIAL else built(kind)


def built(kind: type[BaseModel], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any value, but for the fields that come with a strategy of their own."""
    others = {name: field for name, field in kind.model_fields.items() if name not in given}
    return st.builds(kind, **{name: field_values(field) for name, field in others.items()}, **given)


models = st.builds(
    ModelRef,
    provider=st.sampled_from(PROVIDERS),
    model=st.text(min_size=1, max_size=20),
    base_url=st.just("http://localhost:8000/v1"),
    api_key=st.none() | st.just("env:MY_KEY"),
    settings=st.none() | st.just(ModelSettings(temperature=0.1, effort="low")),
)
SPECIAL: dict[type[BaseModel], st.SearchStrategy[Any]] = {
    ModelRef: models,
    Owner: st.builds(Owner, workspace=st.just("acme"), user=st.text(min_size=1).filter(lambda text: text.strip())),
    CronSchedule: st.builds(
        CronSchedule, expression=st.sampled_from(["* * * * *", "0 9 * * mon-fri"]), timezone=st.just("Europe/Berlin")
    ),
    McpServer: st.sampled_from(
        [McpServer(name="docs", url="https://docs.test/mcp"), McpServer(type="stdio", name="docs")]
    ),
    UnknownEvent: st.builds(UnknownEvent, type=st.text().map("later.{}".format)),
}
DOMAINS = st.sampled_from([(), ("example.com",), ("docs.example.com", "xn--bcher-kva.example")])
# There is only one of the two lists.
SPECIAL[ToolOptions] = st.one_of(
    built(ToolOptions, allowed_domains=DOMAINS, blocked_domains=st.just(())),
    built(ToolOptions, allowed_domains=st.just(()), blocked_domains=DOMAINS),
)
SPECIAL[BranchCheckout] = st.builds(BranchCheckout, name=st.sampled_from(["main", "feature/äöü", "v1.0"]))
SPECIAL[FileMount] = st.builds(
    FileMount,
    file_id=st.just("file_1"),
    mount_path=st.none() | st.sampled_from(["/workspace/a", "/mnt/session/uploads/ä b/c"]),
)
SPECIAL[RepositoryMount] = st.builds(
    RepositoryMount,
    url=st.just("https://github.com/acme/app"),
    authorization_token=st.none() | st.just("gho_token"),
    checkout=st.none() | instances(BranchCheckout) | instances(CommitCheckout),
    mount_path=st.none() | st.just("/workspace/app"),
)
SPECIAL[AgentDefinition] = st.builds(
    AgentDefinition,
    name=st.text(min_size=1, max_size=20),
    model=models,
    system=st.none() | st.text(),
    tools=st.lists(
        st.one_of([instances(FunctionTool), instances(CustomTool), instances(AgentToolset)]),
        max_size=3,
        unique_by=lambda tool: getattr(tool, "name", tool.type),
    ).map(lambda tools: (*tools, McpToolset(mcp_server_name="docs"))),
    mcp_servers=st.just((McpServer(name="docs", url="https://docs.test/mcp"),)),
    limits=instances(Limits),
    compaction=instances(Compaction),
    metadata=values(Metadata),
)
SPECIAL[InjectionLocation] = st.sampled_from([InjectionLocation(header=True), InjectionLocation(body=True)])
SPECIAL[Rule] = st.builds(
    Rule,
    rule=st.sampled_from(["bash", "bash(git *)", "write(/workspace/**)", "mcp__docs__*", 'x({"a":1})']),
    permission=st.sampled_from(["allow", "ask", "deny"]),
)
OPTIONS = st.lists(st.text(min_size=1, max_size=9), min_size=2, max_size=4, unique=True).map(
    lambda labels: tuple(Option(label=label) for label in labels)
)
SPECIAL[Question] = st.builds(
    Question,
    question=st.text(min_size=1, max_size=9),
    header=st.text(min_size=1, max_size=12),
    options=OPTIONS,
    multi_select=st.booleans(),
)
SPECIAL[AskUserInput] = st.builds(AskUserInput, questions=SPECIAL[Question].map(lambda question: (question,)))
SPECIAL[CloudConfig] = st.builds(CloudConfig, networking=instances(UnrestrictedNetwork), packages=instances(Packages))


def wire_types(root: type[Wire] = Wire) -> Iterator[type[Wire]]:
    for child in root.__subclasses__():
        if child.__module__.startswith("sojourn.types"):
            yield child
            yield from wire_types(child)


for module in iter_modules(sojourn.types.__path__, "sojourn.types."):
    import_module(module.name)

WIRE_TYPES = sorted(set(wire_types()), key=lambda kind: kind.__name__)

each_type = pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)


def test_all_wire_types_are_looked_at() -> None:
    assert {"SessionInput", "CallModelResult", "SessionIdle", "ModelPreview", "ModelFailure"} <= {
        kind.__name__ for kind in WIRE_TYPES
    }


@each_type
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_value_survives_the_wire(kind: type[Wire], data: st.DataObject) -> None:
    value = data.draw(instances(kind))

    assert kind.model_validate_json(value.model_dump_json()) == value
    assert converter.from_payload(converter.to_payload(value), kind) == value


@each_type
def test_value_is_frozen(kind: type[Wire]) -> None:
    assert kind.model_config["frozen"] is True


@each_type
def test_field_left_off_while_empty_comes_back_as_its_default(kind: type[Wire]) -> None:
    wrong = [
        name
        for name, field in kind.model_fields.items()
        if (leave_off := field.exclude_if) is not None and (field.is_required() or not leave_off(field.default))
    ]

    assert wrong == []


@each_type
@settings(max_examples=2, deadline=None)
@given(data=st.data())
def test_unknown_field_is_refused_on_input_and_ignored_in_history(kind: type[Wire], data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    added = converter.from_payload(converter.to_payload(value), dict) | {"added_later": {"a": 1}}

    if kind is not UnknownEvent:
        with pytest.raises(InvalidRequestError) as error:
            parse(kind, added)
        assert error.value.param == "added_later"
    read = converter.from_payload(converter.to_payload(added), kind)
    assert {name: getattr(read, name) for name in kind.model_fields} == {
        name: getattr(value, name) for name in kind.model_fields
    }


def test_unknown_field_deep_inside_is_ignored_in_history() -> None:
    data = {
        "step": "sevt_1",
        "said": [
            {"type": "session.usage", "usage": {"input_tokens": 1, "seconds": 2}, "turn": {}},
            {"type": "session.status_idle", "stop_reason": {"type": "end_turn", "why": "later"}},
        ],
    }

    read = converter.from_payload(converter.to_payload(data), CallModelInput)

    assert [event.type for event in read.events()] == [
        "session.usage",
        "session.status_idle",
        "span.model_request_start",
    ]


def test_unknown_said_event_in_history_keeps_its_place() -> None:
    data = {"said": [{"type": "session.dreamt", "of": "sheep"}, {"type": "session.status_rescheduled"}]}

    read = converter.from_payload(converter.to_payload(data), Said)

    assert [event.type for event in read.events()] == ["session.dreamt", "session.status_rescheduled"]
    assert isinstance(read.said[0], UnknownEvent)


def test_known_said_event_that_is_broken_is_not_taken_for_an_unknown_one() -> None:
    with pytest.raises(ValidationError):
        Said.model_validate({"said": [{"type": "session.status_idle"}]})


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        (AgentDefinition, {"name": "a", "model": "scripted:echo", "sytem": "typo"}, "sytem"),
        (AgentDefinition, {"model": "scripted:echo"}, "name"),
        (AgentDefinition, {"name": "a", "model": "scripted:echo", "limits": {"max_steps": 0}}, "limits.max_steps"),
        (AgentDefinition, {"name": "a", "model": "scripted:echo", "metadata": {"k": 1}}, "metadata.k"),
        (SessionInput, {"session_id": "s", "owner": {"workspace": "bad space"}}, "owner.workspace"),
        (Owner, "acme", "body"),
    ],
)
def test_wrong_field_is_refused_with_its_path(kind: type[Wire], data: object, path: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(kind, data)

    assert error.value.param == path
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"type": "user.message", "content": [{"type": "text", "text": 5}]}, "text"),
        ({"type": "user.message", "content": [{"type": "text", "text": "x", "bold": True}]}, "bold"),
        ({"type": "user.message", "content": [], "id": "sevt_1"}, "content"),
        ({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "maybe"}, "result"),
    ],
)
def test_wrong_field_of_a_client_event_is_named(data: object, field: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(UserEvent, data)

    assert str(error.value.param).split(".")[-1] == field


@pytest.mark.parametrize("data", [{"type": "agent.message", "content": []}, {"type": "user.dream"}, {}, None, "{"])
def test_what_is_no_client_event_is_refused(data: object) -> None:
    with pytest.raises(InvalidRequestError):
        parse(UserEvent, data)


def test_unknown_content_block_is_refused_on_input() -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(UserEvent, {"type": "user.message", "content": [{"type": "smell"}]})

    assert "smell" in str(error.value)


@pytest.mark.parametrize(
    "data", ['{"type": "user.interrupt"}', b'{"type": "user.interrupt"}', {"type": "user.interrupt"}]
)
def test_input_is_taken_as_text_bytes_or_decoded(data: object) -> None:
    event: UserEvent = parse(UserEvent, data)

    assert event.type == "user.interrupt"


def test_error_about_input_is_one_line() -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(AgentDefinition, {"name": "", "model": 7, "tools": [{"type": "x"}]})

    assert "\n" not in str(error.value)
    assert not str(error.value).endswith(".")


def test_duration_travels_as_seconds() -> None:
    limits = Limits(tool_timeout=timedelta(seconds=1.5), custom_tool_timeout=timedelta(minutes=2))

    data = limits.model_dump(mode="json")

    assert data["tool_timeout"] == 1.5
    assert data["custom_tool_timeout"] == 120.0


def test_duration_may_be_written_as_whole_seconds() -> None:
    assert parse(Limits, {"tool_timeout": 90}).tool_timeout == timedelta(seconds=90)


def test_wait_without_limit_does_not_become_the_default_limit() -> None:
    forever = Limits(custom_tool_timeout=None)

    assert Limits.model_validate_json(forever.model_dump_json()).custom_tool_timeout is None
    assert converter.from_payload(converter.to_payload(forever), Limits).custom_tool_timeout is None
    assert parse(Limits, "{}").custom_tool_timeout == timedelta(seconds=300)


@pytest.mark.parametrize("name", ["tool_timeout", "model_timeout", "custom_tool_timeout", "retry_interval"])
def test_duration_of_a_limit_must_be_positive(name: str) -> None:
    """The server refuses an activity with such a timeout, and the session would never get out of it."""
    for seconds in (0, -1):
        with pytest.raises(InvalidRequestError) as error:
            parse(Limits, {name: seconds})
        assert error.value.param == name


def test_custom_tool_with_a_timeout_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(CustomTool, {"type": "custom", "name": "ask", "description": "d", "input_schema": {}, "timeout": 0})

    assert error.value.param == "timeout"


def test_empty_fields_stay_off_the_wire() -> None:
    assert UserMessage.text("hi").model_dump(mode="json") == {
        "type": "user.message",
        "content": [{"type": "text", "text": "hi"}],
    }
    assert set(
        ToolCallPart.model_validate(
            {"id": "e", "call_id": "c", "name": "n", "input": {}, "kind": "function", "permission": "allow"}
        ).model_dump(mode="json")
    ) == {"type", "id", "call_id", "name", "input", "kind", "permission"}


def test_title_can_be_set_to_nothing() -> None:
    """An empty title is a change; only ``None`` leaves it as it is."""
    change = UpdateSessionInput(title="")

    assert converter.from_payload(converter.to_payload(change), UpdateSessionInput).title == ""


@pytest.mark.parametrize(
    "metadata",
    [{"": "v"}, {"k" * 65: "v"}, {"k": "v" * 513}, {f"k{place}": "v" for place in range(17)}],
    ids=["no key", "long key", "long value", "too many"],
)
def test_metadata_over_its_bounds_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        parse(Metadata, metadata)


def test_metadata_at_its_bounds_is_taken() -> None:
    metadata = {f"{place:064}": "v" * 512 for place in range(16)}

    assert parse(Metadata, metadata) == metadata


def test_a_said_event_is_read_as_its_own_class() -> None:
    event: object = parse(SaidEvent, {"type": "session.status_terminated", "status": "archived"})

    assert type(event).__name__ == "SessionTerminated"
