"""Hooks: functions of the operator that look at what an agent does, and may change or forbid it.

    @hook("pre_tool", tools="bash")
    async def no_push(call: PreTool) -> Deny | None:
        if "push" in str(call.input.get("command")):
            return Deny("pushing is for people")
        return None

An agent's definition names its hooks; those with ``always=True`` run for every agent. They run in order, each with what
the one before has made of it; a `Deny` ends the chain.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, get_args

from pydantic import JsonValue

from sojourn.types.content import ContentBlock, MessageBlock
from sojourn.types.error import InvalidRequestError
from sojourn.types.event import ToolOutcome
from sojourn.types.glob import TextGlob
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.permission import Permission
from sojourn.types.session import Owner

HookEvent = Literal["pre_tool", "post_tool", "post_failure", "user_prompt", "post_response", "turn_complete"]

HookFunction = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class HookContext:
    """What every hook is told."""

    session_id: SessionId
    agent_id: AgentId
    owner: Owner


@dataclass(frozen=True, kw_only=True)
class PreTool(HookContext):
    """A tool is about to be called, and rules have been evaluated."""

    name: str
    input: Mapping[str, JsonValue]
    permission: Permission


@dataclass(frozen=True, kw_only=True)
class PostTool(HookContext):
    """A tool has returned; for ``post_failure``, it has failed."""

    tool_use_id: EventId
    name: str
    input: Mapping[str, JsonValue]
    content: tuple[ContentBlock, ...]
    outcome: ToolOutcome


@dataclass(frozen=True, kw_only=True)
class UserPrompt(HookContext):
    """A message is about to be shown to the model for the first time."""

    id: EventId
    content: tuple[MessageBlock, ...]

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return "\n".join(block.text for block in self.content if block.type == "text")


@dataclass(frozen=True, kw_only=True)
class PostResponse(HookContext):
    """The model has written a text, which nobody has seen yet."""

    text: str


@dataclass(frozen=True, kw_only=True)
class TurnComplete(HookContext):
    """A turn has ended."""

    stop_reason: str
    turn: int
    steps: int


@dataclass(frozen=True)
class Allow:
    """``pre_tool``: run it without asking, unless a rule denies it or an earlier hook asks."""


@dataclass(frozen=True)
class Ask:
    """``pre_tool``: ask the user first."""


@dataclass(frozen=True)
class Deny:
    """``pre_tool``, ``user_prompt``: it does not happen. Final: no later hook is asked."""

    reason: str = ""


@dataclass(frozen=True)
class Rewrite:
    """Something else in place of what was there.

    For ``pre_tool`` the input; for a tool's result text or content blocks; for ``user_prompt`` text or message blocks;
    for ``post_response`` the text.
    """

    value: Any


@dataclass(frozen=True)
class Append:
    """``post_tool``, ``post_failure``: a text for the model after the result."""

    text: str


HookResult = Allow | Ask | Deny | Rewrite | Append | None

POSSIBLE: Mapping[HookEvent, tuple[type, ...]] = {
    "pre_tool": (Allow, Ask, Deny, Rewrite),
    "post_tool": (Rewrite, Append),
    "post_failure": (Rewrite, Append),
    "user_prompt": (Deny, Rewrite),
    "post_response": (Rewrite,),
    "turn_complete": (),
}
"""What a hook may return, besides ``None``."""


@dataclass(frozen=True)
class Hook:
    """A function with what it looks at. Still callable as the function itself."""

    function: HookFunction
    name: str
    event: HookEvent
    tools: TextGlob = field(default_factory=lambda: TextGlob.of("*"))
    always: bool = False
    """Runs for every agent, before those that the agent's definition names."""

    @property
    def is_async(self) -> bool:
        """Whether the function runs on the event loop; any other runs in a thread."""
        return inspect.iscoroutinefunction(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def hook(
    event: HookEvent, *, tools: str = "*", name: str | None = None, always: bool = False
) -> Callable[[HookFunction], Hook]:
    """Make a hook of a function, sync or async, with one parameter that takes what is looked at.

    One that raises, takes 30 seconds or returns what it cannot return counts as a `Deny` before a tool; anywhere else
    it changes nothing, and a warning is shown in the session's log.

    Args:
        event: What it looks at.
        tools: Which tools, with ``*`` for any text; the others pass it by.
        name: By what definitions name it; the function's own name by default.
        always: Run it for every agent of the worker.

    Raises:
        ValueError: There is no such event.
    """
    if event not in get_args(HookEvent):
        raise ValueError(f"hook event {event!r}: there are {', '.join(get_args(HookEvent))}")

    def make(function: HookFunction) -> Hook:
        return Hook(function, name or function.__name__, event, TextGlob.of(tools), always)

    return make


HookSource = Hook | ModuleType | str


class Hooks:
    """The hooks a worker has, by name."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks: dict[str, Hook] = {}
        for each in hooks:
            if self._hooks.setdefault(each.name, each) is not each:
                raise InvalidRequestError(f"two hooks are called {each.name!r}; give one another name", param="hooks")

    @classmethod
    def of(cls, sources: Iterable[HookSource]) -> "Hooks":
        """Collect hooks from hooks, modules, and import paths such as ``"shop.hooks"``.

        Raises:
            InvalidRequestError: A module cannot be imported or holds no hooks, or two hooks share a name.
        """
        found = {id(each): each for source in sources for each in _hooks_of(source)}
        return cls(found.values())

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._hooks))

    def chain(self, names: Iterable[str]) -> list[Hook]:
        """What runs for an agent: the hooks for all, then those it names, in this order.

        Raises:
            KeyError: The worker has no hook of that name.
        """
        always = [each for each in self._hooks.values() if each.always]
        return [*always, *(each for name in names if (each := self._hooks[name]) not in always)]


def _hooks_of(source: HookSource) -> Iterable[Hook]:
    match source:
        case Hook():
            return [source]
        case str():
            try:
                module = import_module(source)
            except ImportError as error:
                text = f"cannot import hooks from {source!r}: {error}; run in the folder of the module or install it"
                raise InvalidRequestError(text, param="hooks") from None
            return _hooks_of(module)
        case ModuleType():
            if not (found := hooks_in(source)):
                raise InvalidRequestError(
                    f"module {source.__name__!r} holds no hooks; decorate functions with @hook", param="hooks"
                )
            return found


def hooks_beside(sources: Iterable[object]) -> list[Hook]:
    """The hooks in the modules that are there for their tools."""
    modules = [import_module(each) if isinstance(each, str) else each for each in sources]
    return [found for module in modules if isinstance(module, ModuleType) for found in hooks_in(module)]


def hooks_in(module: ModuleType) -> list[Hook]:
    """The hooks of a module, which may be there for its tools."""
    return [each for each in vars(module).values() if isinstance(each, Hook)]
