"""Tools: plain typed Python functions that the agent may call.

    @tool(idempotent=True, timeout=timedelta(seconds=5))
    async def get_weather(city: str) -> str:
        "Tell the weather in a city."

The schema comes from the signature and the docstring. A module of such functions is what a worker is pointed at.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any, get_type_hints, overload

import griffe
from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model

from sojourn.activities.context import ToolContext
from sojourn.types.agent import JsonSchema
from sojourn.types.error import InvalidRequestError
from sojourn.types.permission import Permission

Function = Callable[..., Any]


class ToolFailedError(Exception):
    """A tool tells the model what went wrong, in words of its own."""


@dataclass(frozen=True)
class Tool:
    """A function with what the agent and the runtime must know about it. Still callable as the function itself."""

    function: Function
    name: str
    description: str
    arguments: type[BaseModel]
    idempotent: bool
    timeout: timedelta | None
    permission: Permission | None
    context_parameter: str | None
    """The parameter that takes the `ToolContext`, if the function has one."""

    @property
    def is_async(self) -> bool:
        """Whether the function runs on the event loop; any other runs in a thread."""
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def input_schema(self) -> JsonSchema:
        """JSON schema of the arguments."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
        return schema

    def bind(self, input: Mapping[str, JsonValue], context: ToolContext) -> dict[str, Any]:
        """The keyword arguments of one call.

        Raises:
            ValidationError: The input does not fit the schema.
        """
        values = self.arguments.model_validate(input)
        bound = {str(field.alias): getattr(values, name) for name, field in type(values).model_fields.items()}
        if self.context_parameter is not None:
            bound[self.context_parameter] = context
        return bound

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


@overload
def tool(function: Function, /) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    idempotent: bool = False,
    timeout: timedelta | None = None,
    permission: Permission | None = None,
) -> Callable[[Function], Tool]: ...


def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    idempotent: bool = False,
    timeout: timedelta | None = None,
    permission: Permission | None = None,
) -> Tool | Callable[[Function], Tool]:
    """Make a tool of a function, sync or async.

    A parameter annotated `ToolContext` gets the call's context and is not shown to the model. Type hints must be
    resolvable where the function is defined.

    Args:
        name: The tool's name; the function's own by default.
        idempotent: Whether the call may be repeated with the same `ToolContext.tool_use_id` after a lost attempt. If
            not, it is attempted once and a lost attempt becomes the result "outcome unknown".
        timeout: Longest run of one call; ``None`` takes the agent's limit.
        permission: What holds where neither session nor agent nor worker has a rule for the tool.

    Raises:
        ValueError: A parameter has no type hint, or takes ``*args`` or ``**kwargs``, or there is no time to run.
    """
    if timeout is not None and timeout <= timedelta(0):
        raise ValueError(f"timeout is {timeout}; give the tool some time, or None for the agent's limit")

    def make(function: Function) -> Tool:
        described = _describe(function)
        arguments, context_parameter = _arguments(function, described.parameters)
        return Tool(
            function=function,
            name=name or function.__name__,
            description=described.text,
            arguments=arguments,
            idempotent=idempotent,
            timeout=timeout,
            permission=permission,
            context_parameter=context_parameter,
        )

    return make if function is None else make(function)


class Toolbox:
    """The tools a worker has, by name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for each in tools:
            if self._tools.setdefault(each.name, each) is not each:
                raise InvalidRequestError(f"two tools are called {each.name!r}; give one another name", param="tools")

    @classmethod
    def of(cls, sources: Iterable[Tool | Function | ModuleType | str]) -> "Toolbox":
        """Collect tools from tool objects, plain functions, modules, and import paths such as ``"shop.tools"``.

        Raises:
            InvalidRequestError: A module cannot be imported or holds no tools, or two tools share a name.
        """
        return cls(found for source in sources for found in _tools_of(source))

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._tools))

    def get(self, name: str) -> Tool | None:
        """The tool of this name, if the worker has it."""
        return self._tools.get(name)


@dataclass(frozen=True)
class _Described:
    text: str
    parameters: Mapping[str, str]


def _describe(function: Function) -> _Described:
    doc = inspect.getdoc(function) or ""
    text, parameters = doc, {}
    for section in griffe.Docstring(doc).parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            text = section.value.strip()
        elif section.kind is griffe.DocstringSectionKind.parameters:
            parameters = {each.name: each.description for each in section.value}
    return _Described(text, parameters)


def _arguments(function: Function, descriptions: Mapping[str, str]) -> tuple[type[BaseModel], str | None]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    context_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"tool {function.__name__!r}: parameter {parameter} cannot be described to a model")
        if parameter.name not in hints:
            raise ValueError(f"tool {function.__name__!r}: parameter {parameter.name!r} needs a type hint")
        if hints[parameter.name] is ToolContext:
            context_parameter = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        text = descriptions.get(parameter.name)
        described: dict[str, Any] = {"description": text} if text else {}
        # Under names of our own, because pydantic's models have attributes such as `copy` and `json` themselves.
        field = Field(default, alias=parameter.name, **described)
        fields[f"argument_{len(fields)}"] = (hints[parameter.name], field)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(function.__name__, __config__=config, **fields), context_parameter


def _tools_of(source: Tool | Function | ModuleType | str) -> Iterable[Tool]:
    match source:
        case Tool():
            return [source]
        case str():
            return _tools_of(_import(source))
        case ModuleType():
            found = [each for each in vars(source).values() if isinstance(each, Tool)]
            if not found:
                raise InvalidRequestError(
                    f"module {source.__name__!r} holds no tools; decorate functions with @tool", param="tools"
                )
            return found
        case _:
            return [tool(source)]


def _import(path: str) -> ModuleType:
    try:
        return import_module(path)
    except ImportError as error:
        raise InvalidRequestError(
            f"cannot import tools from {path!r}: {error}; run in the folder of the module or install it", param="tools"
        ) from None
