"""Running the hooks of one session, in their order."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from pydantic import JsonValue, TypeAdapter, ValidationError

from sojourn.activities.hook import (
    POSSIBLE,
    Allow,
    Append,
    Ask,
    Deny,
    Hook,
    HookContext,
    HookEvent,
    Hooks,
    PostResponse,
    PostTool,
    PreTool,
    Rewrite,
    TurnComplete,
    UserPrompt,
)
from sojourn.activities.model import ModelCallError
from sojourn.types.content import ContentBlock, MessageBlock, TextBlock
from sojourn.types.failure import ModelFailure
from sojourn.types.permission import Permission
from sojourn.types.record import PromptVerdict
from sojourn.types.session import SessionInput

logger = logging.getLogger("sojourn.activities")

HOOK_TIMEOUT = timedelta(seconds=30)

_INPUT: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])
_CONTENT: TypeAdapter[tuple[ContentBlock, ...]] = TypeAdapter(tuple[ContentBlock, ...])
_MESSAGE: TypeAdapter[tuple[MessageBlock, ...]] = TypeAdapter(tuple[MessageBlock, ...])


class _HookError(Exception):
    """A hook has failed; says how."""


@dataclass(frozen=True)
class Verdict:
    """What the hooks before a tool came to."""

    input: dict[str, JsonValue]
    permission: Permission
    reason: str = ""
    """Why a hook denies it."""
    is_ruled: bool = True
    """Whether rules alone have decided."""


@dataclass
class HookChain:
    """The hooks of one session. Made for one activity."""

    context: HookContext
    hooks: list[Hook]
    threads: ThreadPoolExecutor
    timeout: timedelta = HOOK_TIMEOUT
    warnings: list[str] = field(default_factory=list)
    """Which hooks have failed, in words for people."""

    def has(self, event: HookEvent) -> bool:
        """Whether there is a hook for it."""
        return any(each.event == event for each in self.hooks)

    def _of(self, event: HookEvent, tool: str | None = None) -> list[Hook]:
        return [each for each in self.hooks if each.event == event and (tool is None or each.tools.matches(tool))]

    # --- what they are asked ---------------------------------------------------------------------------------------

    async def before_tool(
        self, name: str, input: dict[str, JsonValue], ruled: Callable[[dict[str, JsonValue]], Permission]
    ) -> Verdict:
        """What becomes of a call. Deny beats Ask beats Allow, and none of them beats a rule that denies.

        Args:
            name: The tool.
            input: As the model wrote it.
            ruled: What rules say of an input. A rewritten one is held against them again.
        """
        verdict = Verdict(input, ruled(input))
        said: set[type] = set()
        for each in self._of("pre_tool", name):
            if verdict.permission == "deny":
                break
            event = PreTool(**vars(self.context), name=name, input=verdict.input, permission=verdict.permission)
            try:
                answer = await self._run(each, event)
                if isinstance(answer, Rewrite):
                    verdict = replace(verdict, input=_rewritten(each, _INPUT, answer.value))
            except _HookError as error:
                self._warn(error)
                answer = Deny(f"{error}, so the call is not permitted.")
            if isinstance(answer, Deny):
                return replace(verdict, permission="deny", reason=answer.reason, is_ruled=False)
            said.add(type(answer))
            verdict = replace(verdict, permission=_combined(ruled(verdict.input), said))
        return verdict

    async def after_tool(self, event: PostTool) -> tuple[ContentBlock, ...]:
        """The result as the model gets it."""
        kind: HookEvent = "post_tool" if event.outcome == "ok" else "post_failure"
        for each in self._of(kind, event.name):
            try:
                answer = await self._run(each, event)
                if isinstance(answer, Append):
                    event = replace(event, content=(*event.content, TextBlock(text=answer.text)))
                elif isinstance(answer, Rewrite):
                    event = replace(event, content=_rewritten(each, _CONTENT, _blocks(answer.value)))
            except _HookError as error:
                self._warn(error)
        return event.content

    async def on_prompt(self, event: UserPrompt) -> tuple[PromptVerdict, str]:
        """What the model sees of a message, and why it is denied if it is."""
        given = event.content
        for each in self._of("user_prompt"):
            try:
                answer = await self._run(each, event)
                if isinstance(answer, Deny):
                    return PromptVerdict(id=event.id, denied=True), answer.reason
                if isinstance(answer, Rewrite):
                    event = replace(event, content=_rewritten(each, _MESSAGE, _blocks(answer.value)))
            except _HookError as error:
                self._warn(error)
        return PromptVerdict(id=event.id, content=None if event.content == given else event.content), ""

    async def on_response(self, text: str) -> str:
        """The model's text as everybody sees it."""
        for each in self._of("post_response"):
            try:
                answer = await self._run(each, PostResponse(**vars(self.context), text=text))
                if isinstance(answer, Rewrite):
                    if not isinstance(answer.value, str):
                        raise _HookError(f"hook {each.name!r} wrote a {type(answer.value).__name__} for a text")
                    text = answer.value
            except _HookError as error:
                self._warn(error)
        return text

    async def on_turn_complete(self, event: TurnComplete) -> None:
        """Tell them that a turn has ended."""
        for each in self._of("turn_complete"):
            try:
                await self._run(each, event)
            except _HookError as error:
                self._warn(error)

    # --- one hook --------------------------------------------------------------------------------------------------

    async def _run(self, hook: Hook, event: HookContext) -> object:
        try:
            async with asyncio.timeout(self.timeout.total_seconds()):
                answer = await self._call(hook, event)
        except TimeoutError:
            raise _HookError(f"hook {hook.name!r} gave no answer within {self.timeout.total_seconds():g} s") from None
        except (Exception, SystemExit) as error:
            logger.warning("hook %r failed", hook.name, exc_info=error, extra={"session_id": event.session_id})
            raise _HookError(f"hook {hook.name!r} failed with {type(error).__name__}") from None
        if answer is not None and not isinstance(answer, POSSIBLE[hook.event]):
            text = f"hook {hook.name!r} returned a {type(answer).__name__}, which {hook.event} does not take"
            raise _HookError(text)
        return answer

    async def _call(self, hook: Hook, event: HookContext) -> object:
        if hook.is_async:
            return await hook.function(event)
        run = contextvars.copy_context().run
        # In a thread, so that a hook that blocks never blocks the worker.
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: run(hook.function, event))

    def _warn(self, error: _HookError) -> None:
        if (text := str(error)) not in self.warnings:
            self.warnings.append(text)


def _combined(ruled: Permission, said: set[type]) -> Permission:
    if ruled == "deny":
        return "deny"
    if Ask in said:
        return "ask"
    return "allow" if Allow in said else ruled


def _blocks(value: Any) -> Any:
    return (TextBlock(text=value),) if isinstance(value, str) else value


def _rewritten(hook: Hook, kind: TypeAdapter[Any], value: Any) -> Any:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise _HookError(f"hook {hook.name!r} wrote what cannot be: {error.errors()[0]['msg']}") from None


class SessionHooks:
    """Makes the chain of a session. Holds what that needs on a worker."""

    def __init__(self, hooks: Hooks, threads: ThreadPoolExecutor, *, timeout: timedelta = HOOK_TIMEOUT) -> None:
        self._hooks = hooks
        self._threads = threads
        self._timeout = timeout

    def of(self, start: SessionInput) -> HookChain:
        """The hooks of a session; raises what `chain` does."""
        context = HookContext(session_id=start.session_id, agent_id=start.agent.id, owner=start.owner)
        return self.chain(context, start.agent.definition.hooks)

    def chain(self, context: HookContext, names: Iterable[str]) -> HookChain:
        """The hooks for all agents, and those of these names.

        Raises:
            ModelCallError: Fatal; the worker lacks one that the agent's definition names.
        """
        try:
            hooks = self._hooks.chain(names)
        except KeyError as error:
            has = ", ".join(self._hooks.names) or "none"
            way_out = "start it with `sojourn worker --hooks MODULE`"
            text = f"the worker has no hook {error.args[0]!r} (it has: {has}); {way_out}"
            raise ModelCallError(ModelFailure(kind="fatal", message=text, error_class="InvalidRequestError")) from None
        return HookChain(context, hooks, self._threads, self._timeout)
