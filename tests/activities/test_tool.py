import enum
import inspect
import sys
from datetime import timedelta
from types import ModuleType
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from sojourn.activities.context import ToolContext
from sojourn.activities.tool import Tool, Toolbox, tool
from sojourn.types.agent import JsonSchema
from sojourn.types.error import InvalidRequestError
from sojourn.types.id import EventId, SessionId

CONTEXT = ToolContext(SessionId("sesn_1"), EventId("sevt_1"), attempt=1)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    number: int = Field(ge=1)


@tool
def search(query: str, limit: int = 10) -> str:
    """Search the archive.

    Longer words about it.

    Args:
        query: What to look for.
        limit: Most hits.

    Returns:
        The hits.
    """
    return f"{query} {limit}"


@tool(name="pay_bill", idempotent=True, timeout=timedelta(seconds=5), permission="ask")
async def pay(amount: float, context: ToolContext) -> str:
    """Pay."""
    return f"{amount} by {context.tool_use_id}"


def schema_of(function: object) -> JsonSchema:
    assert callable(function)
    return tool(function).input_schema


def properties(function: object) -> JsonSchema:
    found = schema_of(function)["properties"]
    assert isinstance(found, dict)
    return found


def test_schema_comes_from_signature_and_docstring() -> None:
    assert search.input_schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for."},
            "limit": {"type": "integer", "default": 10, "description": "Most hits."},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_description_is_the_docstring_without_its_sections() -> None:
    assert search.description == "Search the archive.\n\nLonger words about it."


def test_function_without_a_docstring_has_no_description() -> None:
    def bare() -> None: ...

    assert tool(bare).description == ""


def test_bare_decorator_has_careful_defaults() -> None:
    assert (search.name, search.idempotent, search.timeout, search.permission) == ("search", False, None, None)


def test_options_of_the_decorator_are_kept() -> None:
    assert (pay.name, pay.idempotent, pay.permission) == ("pay_bill", True, "ask")
    assert pay.timeout == timedelta(seconds=5)


def test_tool_is_still_the_function() -> None:
    assert search("x", limit=2) == "x 2"


async def test_async_tool_is_still_the_function() -> None:
    assert await pay(1.5, CONTEXT) == "1.5 by sevt_1"


def test_async_function_is_told_from_a_sync_one() -> None:
    assert pay.is_async
    assert not search.is_async


def test_context_is_not_shown_to_the_model_and_is_bound() -> None:
    assert list(properties(pay.function)) == ["amount"]
    assert pay.bind({"amount": 2}, CONTEXT) == {"amount": 2.0, "context": CONTEXT}


def test_arguments_are_bound_with_defaults() -> None:
    assert search.bind({"query": "x"}, CONTEXT) == {"query": "x", "limit": 10}


@pytest.mark.parametrize("input", [{}, {"query": 5}, {"query": "x", "limit": "many"}, {"query": "x", "page": 2}])
def test_arguments_that_do_not_fit_are_refused(input: JsonSchema) -> None:
    with pytest.raises(ValidationError):
        search.bind(input, CONTEXT)


def test_annotated_parameter_carries_its_bounds() -> None:
    def wait(seconds: Annotated[int, Field(ge=1, le=60, description="How long.")]) -> None: ...

    assert properties(wait) == {"seconds": {"type": "integer", "minimum": 1, "maximum": 60, "description": "How long."}}


def test_docstring_does_not_need_to_name_every_parameter() -> None:
    def wait(seconds: int, reason: str) -> None:
        """Wait.

        Args:
            seconds: How long.
        """

    assert properties(wait) == {
        "seconds": {"type": "integer", "description": "How long."},
        "reason": {"type": "string"},
    }


def test_optional_parameter_may_be_null_and_left_out() -> None:
    def find(name: str | None = None) -> None: ...

    assert properties(find) == {"name": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}}
    assert "required" not in schema_of(find)
    assert tool(find).bind({}, CONTEXT) == {"name": None}
    assert tool(find).bind({"name": None}, CONTEXT) == {"name": None}


def test_choice_is_an_enumeration() -> None:
    def sort(order: Literal["up", "down"] = "up") -> None: ...

    assert properties(sort) == {"order": {"type": "string", "enum": ["up", "down"], "default": "up"}}


def test_enum_is_bound_as_its_member() -> None:
    def paint(colour: Colour) -> None: ...

    made = tool(paint)

    assert made.bind({"colour": "red"}, CONTEXT) == {"colour": Colour.RED}
    assert made.input_schema["$defs"] == {"Colour": {"enum": ["red", "blue"], "title": "Colour", "type": "string"}}


def test_model_is_bound_as_its_instance() -> None:
    def deliver(to: Address, also: list[Address]) -> None: ...

    made = tool(deliver)

    bound = made.bind({"to": {"street": "Elm", "number": 1}, "also": [{"street": "Oak", "number": 2}]}, CONTEXT)

    assert bound == {"to": Address(street="Elm", number=1), "also": [Address(street="Oak", number=2)]}
    with pytest.raises(ValidationError):
        made.bind({"to": {"street": "Elm", "number": 0}, "also": []}, CONTEXT)


def test_default_of_any_kind_is_bound() -> None:
    def tag(words: tuple[str, ...] = ("a", "b"), colour: Colour = Colour.BLUE) -> None: ...

    assert tool(tag).bind({}, CONTEXT) == {"words": ("a", "b"), "colour": Colour.BLUE}


@pytest.mark.parametrize("name", ["json", "schema", "copy", "model_config", "model_fields", "self_"])
def test_parameter_may_have_any_ordinary_name(name: str) -> None:
    """Pydantic has methods of some of these names."""
    scope: dict[str, object] = {}
    exec(f"def use({name}: str) -> None: ...", scope)

    made = tool(scope["use"])  # type: ignore[call-overload]

    assert list(made.input_schema["properties"]) == [name]
    assert made.bind({name: "x"}, CONTEXT) == {name: "x"}


def test_keyword_only_parameters_are_arguments_too() -> None:
    def go(*, fast: bool) -> None: ...

    assert list(properties(go)) == ["fast"]


def test_method_of_an_object_is_a_tool_without_self() -> None:
    class Shop:
        def sell(self, item: str) -> str:
            return item

    assert list(properties(Shop().sell)) == ["item"]


def test_parameter_without_a_type_is_refused() -> None:
    def vague(x) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(ValueError, match="parameter 'x' needs a type hint"):
        tool(vague)


def test_parameters_that_have_no_names_are_refused() -> None:
    def many(*args: str) -> None: ...
    def any_name(**kwargs: str) -> None: ...
    def first(x: str, /) -> None: ...

    for function in (many, any_name, first):
        with pytest.raises(ValueError, match="cannot be described to a model"):
            tool(function)


def test_decorator_refuses_a_timeout_of_nothing() -> None:
    with pytest.raises(ValueError, match="timeout"):
        tool(timeout=timedelta(0))


# --- toolbox ---------------------------------------------------------------------------------------------------------


def test_tools_are_found_by_name() -> None:
    tools = Toolbox([search, pay])

    assert tools.names == ("pay_bill", "search")
    assert tools.get("search") is search
    assert tools.get("pay") is None


def test_plain_function_becomes_a_tool() -> None:
    def greet(name: str) -> str:
        """Greet."""
        return name

    found = Toolbox.of([greet]).get("greet")

    assert isinstance(found, Tool)
    assert found.description == "Greet."


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="two tools are called 'search'"):
        Toolbox([search, tool(name="search")(pay.function)])


def test_same_tool_twice_is_one_tool() -> None:
    """A module may import a tool of another one that is given as well."""
    assert Toolbox.of([search, search]).names == ("search",)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("shop_tools_of_a_test")
    made.__dict__.update(search=search, pay=pay, helper=inspect.getdoc, VERSION=1)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_module_gives_its_decorated_functions(module: ModuleType) -> None:
    assert Toolbox.of([module]).names == ("pay_bill", "search")


def test_module_is_found_by_its_import_path(module: ModuleType) -> None:
    assert Toolbox.of([module.__name__]).names == ("pay_bill", "search")


def test_module_without_tools_is_refused(module: ModuleType) -> None:
    del module.search, module.pay

    with pytest.raises(InvalidRequestError, match="decorate functions with @tool"):
        Toolbox.of([module])


def test_module_that_cannot_be_imported_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="cannot import tools from 'no_such_module'") as error:
        Toolbox.of(["no_such_module"])

    assert error.value.param == "tools"
