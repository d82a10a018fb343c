"""The activity `run_tool`: one call of a tool."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from sojourn.activities.catalogue import Catalogue
from sojourn.activities.context import ToolContext
from sojourn.activities.envelope import Envelope, UnfitError, patiently
from sojourn.activities.hook import PostTool
from sojourn.activities.hook_chain import HookChain, SessionHooks
from sojourn.activities.mcp.gate import MISSING, McpGate
from sojourn.activities.model import ModelCallError
from sojourn.activities.observation import ToolObservation, tool_call
from sojourn.activities.pulse import Pulse
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.tool import Tool, ToolFailedError
from sojourn.activities.workspace import HeldWorkspace, WorkspaceHolder, WorkspaceLostError
from sojourn.types.content import (
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    SearchResultBlock,
    TextBlock,
)
from sojourn.types.error import SandboxError, StoreUnavailableError
from sojourn.types.event import ToolOutcome
from sojourn.types.id import SessionId
from sojourn.types.mcp import McpOutcome
from sojourn.types.name import RUN_TOOL_ACTIVITY, WORKSPACE_LOST
from sojourn.types.preview import ToolPreview
from sojourn.types.record import TOOL_GRACE, RunToolInput, RunToolResult, ToolCallPart, Warned
from sojourn.types.session import SessionInput

_BLOCKS = (TextBlock, ImageBlock, DocumentBlock, SearchResultBlock)


_HOOKS = TOOL_GRACE - timedelta(seconds=2)
"""For all hooks after a call: then it must be reported, or the server takes it for lost."""


class ToolCall:
    """Holds what the activity needs on a worker.

    Args:
        logs: Where the arguments of a call are found.
        tools: The worker's tools.
        threads: Where sync tools run, so that they never block the worker's loop.
        envelope: Says which results fit.
        workspaces: Those that this worker holds; ``None`` without a sandbox.
        hooks: Those that look at results.
        mcp: The worker's access to MCP servers; ``None`` has none.
    """

    def __init__(
        self,
        *,
        logs: SessionLogs,
        tools: Catalogue,
        threads: ThreadPoolExecutor,
        envelope: Envelope,
        workspaces: WorkspaceHolder | None = None,
        hooks: SessionHooks | None = None,
        mcp: McpGate | None = None,
    ) -> None:
        self._hooks = hooks
        self._envelope = envelope
        self._workspaces = workspaces
        self._mcp = mcp
        self._logs = logs
        self._tools = tools
        self._threads = threads
        self._running: set[asyncio.Task[Any]] = set()

    @activity.defn(name=RUN_TOOL_ACTIVITY)
    async def run_tool(self, record: RunToolInput) -> RunToolResult:
        """Run one call and return its one result; whatever the tool does wrong becomes an error result.

        Attempted again after a lost worker only if the tool is idempotent; the tool-use id is the tool's key for that.
        On cancellation it returns an "interrupted" result at once, even if a sync tool's thread goes on.
        """
        info = activity.info()
        watch = _Watch(record)
        try:
            async with Pulse(watch.preview):
                log = self._logs.get(info.workflow_id or "")
                call = await patiently(lambda: log.call(info.workflow_run_id or "", record.tool_use_id))
                with tool_call(log.start, record, call) as seen:
                    chain = self._hooks.of(log.start) if self._hooks is not None and log.start is not None else None
                    if call.kind == "mcp":
                        ran, notices = await self._run_mcp(record, call, watch, log.start), ("", "")
                    else:
                        async with self._place(record, log.start) as workspace:
                            context = self._context(record, call, watch, log.start, workspace)
                            ran = await self._run(record, call, watch, context, seen)
                            notices = (record.notice, workspace.notice() if workspace else "")
                    if ran.is_final:
                        ran = await _seen_by_hooks(chain, call, ran)
                    result = await self._sealed(record, _noticed(ran, notices), seen)
                    seen.ended(result.outcome)
        except ModelCallError as error:
            # Without its hooks nothing runs.
            return _result(record, f"The tool did not run: {error.failure.message}", "error")
        except WorkspaceLostError as error:
            raise ApplicationError(
                str(error), type=WORKSPACE_LOST, non_retryable=True, category=ApplicationErrorCategory.BENIGN
            ) from None
        except asyncio.CancelledError:
            watch.cancelled.set()
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested:
                raise
            return _result(record, "The call was interrupted. Try again if it is still needed.", "interrupted")
        except StoreUnavailableError as error:
            return _result(record, f"The tool did not run: {error}", "error")
        if info.retry_policy is not None and info.retry_policy.maximum_attempts == 1:
            log.remember_result(result)
        return result

    @asynccontextmanager
    async def _place(
        self, record: RunToolInput, start: SessionInput | None
    ) -> AsyncGenerator[HeldWorkspace | None, None]:
        """The workspace while the call runs, if it needs one."""
        if not record.generation:
            yield None
            return
        if self._workspaces is None or start is None:
            raise WorkspaceLostError("this worker holds no workspaces")
        workflow_id = activity.info().workflow_id or ""
        async with self._workspaces.using(workflow_id, record.generation, start) as workspace:
            yield workspace

    def _context(
        self,
        record: RunToolInput,
        call: ToolCallPart,
        watch: "_Watch",
        start: SessionInput | None,
        workspace: HeldWorkspace | None,
    ) -> ToolContext:
        info = activity.info()
        entry = self._tools.of(start).get(record.name) if start and call.kind == "builtin" else None
        return ToolContext(
            session_id=SessionId((info.workflow_id or "").rpartition("/")[2]),
            tool_use_id=record.tool_use_id,
            attempt=info.attempt,
            options=entry.options if entry else None,
            start=start,
            _workspace=workspace,
            _report=watch.report,
            _cancelled=watch.cancelled,
        )

    async def _run_mcp(
        self, record: RunToolInput, call: ToolCallPart, watch: "_Watch", start: SessionInput | None
    ) -> RunToolResult:
        assert start is not None, "a call is found in a log that has been read from its start"
        result = None
        if self._mcp is not None:
            result = await self._mcp.call(start, call, record, limit=_limit(), progress=watch.report)
        return result or _result(record, f"The tool did not run: {MISSING}.", "error")

    async def _run(
        self, record: RunToolInput, call: ToolCallPart, watch: "_Watch", context: ToolContext, seen: ToolObservation
    ) -> RunToolResult:
        tools = self._tools.built_in if call.kind == "builtin" else self._tools.tools
        if (found := tools.get(record.name)) is None:
            return _result(record, f"The worker has no tool {record.name!r}.", "error")
        limit = _limit()
        try:
            arguments = found.bind(call.input, context)
        except ValidationError as error:
            return _result(record, _explain(error), "error")
        running = asyncio.create_task(self._call(found, arguments))
        self._running.add(running)
        running.add_done_callback(self._over)
        try:
            done, _ = await asyncio.wait({running}, timeout=limit.total_seconds())
        finally:
            # Not awaited: a tool that holds on to its cancellation must not hold the session.
            running.cancel()
        if not done:
            watch.cancelled.set()
            return _result(record, _out_of_time(limit, found), "timed_out")
        return _told(record, running, seen)

    async def _sealed(self, record: RunToolInput, result: RunToolResult, seen: ToolObservation) -> RunToolResult:
        try:
            return await patiently(lambda: self._envelope.seal(result))
        except UnfitError as error:
            if error.size_bytes is not None:
                seen.too_large(error.size_bytes)
            return _result(record, f"The tool's result cannot be given: {error}. Ask for less at a time.", "error")
        except StoreUnavailableError as error:
            return _result(record, f"The tool ran, and its result could not be stored: {error}", "error")

    async def _call(self, found: Tool, arguments: dict[str, Any]) -> Any:
        try:
            if found.is_async:
                return await found.function(**arguments)
            run = contextvars.copy_context().run
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: run(lambda: found.function(**arguments))
            )
        except SystemExit as error:
            # A tool that calls `sys.exit` must not take the worker along.
            raise _ExitError(f"SystemExit: {error}") from None

    def _over(self, running: asyncio.Task[Any]) -> None:
        self._running.discard(running)
        if not running.cancelled():
            # Asked for, so that asyncio does not report the failure of a tool whose result nobody waits for.
            running.exception()


async def _seen_by_hooks(chain: HookChain | None, call: ToolCallPart, result: RunToolResult) -> RunToolResult:
    """The result as hooks leave it. They share the time that the server leaves the call beyond its own limit."""
    if chain is None or not chain.hooks:
        return result
    chain.timeout = min(chain.timeout, _HOOKS)
    event = PostTool(
        **vars(chain.context),
        tool_use_id=call.id,
        name=call.name,
        input=call.input,
        content=result.content,
        outcome=result.outcome,
    )
    try:
        async with asyncio.timeout(_HOOKS.total_seconds()):
            content = await chain.after_tool(event)
    except TimeoutError:
        content = result.content
        chain.warnings.append(f"the hooks for {call.name!r} took more than {_HOOKS.total_seconds():g} s together")
    warnings = tuple(Warned(type="hook_failed_error", message=text) for text in chain.warnings)
    return result.model_copy(update={"content": content, "warnings": warnings})


class _ExitError(Exception):
    """A tool wanted to end the process."""


class _Watch:
    """What a running call shows to the outside, and hears from it."""

    def __init__(self, record: RunToolInput) -> None:
        self.cancelled = threading.Event()
        self._record = record
        self._progress: str | None = None

    def report(self, text: str) -> None:
        self._progress = text

    def preview(self) -> ToolPreview | None:
        progress, self._progress = self._progress, None
        if progress is None:
            return None
        return ToolPreview(tool_use_id=self._record.tool_use_id, progress=_utf8(progress[-4000:]))


def _told(record: RunToolInput, finished: asyncio.Task[Any], seen: ToolObservation) -> RunToolResult:
    try:
        return _converted(record, finished.result(), seen)
    except asyncio.CancelledError:
        return _result(record, "CancelledError: the tool cancelled itself", "error")
    except (SandboxError, ToolFailedError) as error:
        # Whole, as a result would be: what a failed command has written ends with what matters most.
        return _result(record, str(error), "error", longest=None)
    except Exception as error:
        seen.raised(error)
        text = str(error) if isinstance(error, _ExitError) else f"{type(error).__name__}: {error}"
        return _result(record, text, "error")


def _noticed(result: RunToolResult, notices: Iterable[str]) -> RunToolResult:
    """The result after what the model is to know first."""
    blocks = tuple(TextBlock(text=notice) for notice in notices if notice)
    return result.model_copy(update={"content": (*blocks, *result.content)}) if blocks else result


def _converted(record: RunToolInput, value: object, seen: ToolObservation) -> RunToolResult:
    try:
        content = _content(value)
        to_json(content)
    except (PydanticSerializationError, ValueError) as error:
        text = f"The tool returned a {type(value).__name__} that cannot be written as JSON: {error}"
        return _result(record, text, "error")
    return RunToolResult(tool_use_id=record.tool_use_id, content=content)


def _content(value: object) -> tuple[ContentBlock, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (TextBlock(text=value),)
    if isinstance(value, BaseModel) and isinstance(value, _BLOCKS):
        return (value,)
    if isinstance(value, list | tuple) and value and all(isinstance(each, _BLOCKS) for each in value):
        return tuple(value)
    return (TextBlock(text=to_json(value).decode()),)


def _limit() -> timedelta:
    """How long the running call may take."""
    return (activity.info().start_to_close_timeout or TOOL_GRACE) - TOOL_GRACE


def _result(record: RunToolInput, text: str, outcome: ToolOutcome, *, longest: int | None = 10_000) -> RunToolResult:
    return RunToolResult(
        tool_use_id=record.tool_use_id,
        content=(TextBlock(text=_utf8(text[:longest])),),
        outcome=outcome,
        mcp=McpOutcome() if record.mcp else None,
    )


def _utf8(text: str) -> str:
    """The text without what JSON cannot carry, such as the raw bytes of a file's name."""
    return text.encode(errors="replace").decode()


def _explain(error: ValidationError) -> str:
    faults = (f"{'.'.join(map(str, each['loc'])) or 'input'}: {each['msg']}" for each in error.errors())
    return "Invalid arguments. " + "; ".join(faults)


def _out_of_time(limit: timedelta, found: Tool) -> str:
    text = f"The call gave no result within {limit.total_seconds():g} s."
    return text if found.idempotent else f"{text} It may have had its effect."
