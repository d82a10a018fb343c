"""Calls to the tools of MCP servers. One that waits for the user outlives the activity that began it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from mcp import MCPError, UrlElicitationRequiredError, types
from pydantic import ValidationError

from sojourn.activities.mcp.connection import Connection, ServerLostError
from sojourn.activities.mcp.content import blocks
from sojourn.activities.mcp.pool import McpPool
from sojourn.activities.mcp.question import WITHDRAWN, AnswerError, Question, read_answer
from sojourn.types.agent import McpServer
from sojourn.types.content import ContentBlock, TextBlock
from sojourn.types.event import ToolOutcome, UserCustomToolResult
from sojourn.types.id import EventId
from sojourn.types.mcp import McpFailure, McpOutcome
from sojourn.types.record import RunToolInput, RunToolResult, ToolCallPart
from sojourn.types.session import SessionInput

_ATTEMPTS = 5
"""Of one call, over a new connection each time: for those that had no effect, or may have it twice."""

_PAUSE = timedelta(milliseconds=250)
"""Before the second attempt; twice as long before each that follows. A server that is restarted takes seconds."""

_TOGETHER = timedelta(milliseconds=20)
"""Questions that come within this are asked at the same time."""

_ROUNDS = 50
"""How often one call may ask for something before it goes on; a server that never ends must not hold a session."""

_LONGEST_WAIT = timedelta(hours=24)
"""For answers. A session may wait longer, but its server hardly will, and a worker must not keep all of them."""


Progress = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """What a call has come to."""

    content: tuple[ContentBlock, ...]
    outcome: ToolOutcome = "ok"
    failure: McpFailure | None = None
    tools_changed: bool = False


@dataclass
class HeldCall:
    """One call to a server, and what the server wants to know of the user."""

    server: McpServer
    task: asyncio.Task[Finished] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    questions: list[Question] = field(default_factory=list)
    expiry: asyncio.TimerHandle | None = None
    progress: Progress = lambda text: None
    """Where to tell how far it is: that of the activity that waits for it now."""

    async def ask(self, params: types.ElicitRequestParams) -> types.ElicitResult:
        """Have the user asked; see `Asked`."""
        answer: asyncio.Future[types.ElicitResult] = asyncio.get_running_loop().create_future()
        question = Question(self.server.name, params, answer)
        self.questions.append(question)
        self.news.set()
        try:
            return await answer
        finally:
            self.questions.remove(question)

    def untold(self) -> list[Question]:
        """Questions that the session does not know of."""
        return [question for question in self.questions if not question.told]

    def resumed(self) -> None:
        """The wait for answers is over."""
        if self.expiry is not None:
            self.expiry.cancel()

    def cancel(self) -> None:
        """Give the call up; the server is told."""
        self.resumed()
        if self.task is not None:
            self.task.cancel()
        for question in self.questions:
            question.answer.cancel()


Answers = Callable[[EventId], Awaitable[UserCustomToolResult]]


class McpCalls:
    """The calls of one worker.

    Args:
        pool: The worker's connections.
        own_queue: Gives the task queue that only this worker serves; begins to serve it when it is asked first.
    """

    def __init__(self, pool: McpPool, *, own_queue: Callable[[], Awaitable[str]]) -> None:
        self._pool = pool
        self._own_queue = own_queue
        self._held: dict[tuple[str, EventId], HeldCall] = {}

    async def run(
        self,
        workflow_id: str,
        start: SessionInput,
        call: ToolCallPart,
        record: RunToolInput,
        *,
        limit: timedelta,
        progress: Progress,
        answers: Answers,
    ) -> RunToolResult:
        """Begin a call, or go on with one whose questions are settled, until it ends or asks something.

        Cancelling it gives the call up.

        Args:
            workflow_id: The session's.
            start: What its run started from.
            call: The model's call.
            record: What the activity was scheduled with.
            limit: Longest time without a question.
            progress: Takes what the server says of how far it is.
            answers: Gives the client's answer to a question.
        """
        key = (workflow_id, record.tool_use_id)
        if record.answered or record.withdrawn:
            held = self._held.pop(key, None)
            if held is None:
                return _told(record, _GONE)
            held.resumed()
            try:
                await _settle(held, record, answers)
            except BaseException:
                held.cancel()
                raise
        else:
            begun = self._begun(workflow_id, start, call)
            if isinstance(begun, Finished):
                return _told(record, begun)
            held = begun
        held.progress = progress
        return await self._until_news(key, held, record, limit)

    def abandon(self, workflow_id: str, tool_use_id: EventId) -> None:
        """Give up a call that waits for answers, if it does so here."""
        if (held := self._held.pop((workflow_id, tool_use_id), None)) is not None:
            held.cancel()

    async def close(self) -> None:
        """Give up all calls that wait for answers."""
        calls = list(self._held.values())
        self._held.clear()
        for held in calls:
            held.cancel()
        await asyncio.gather(*(held.task for held in calls if held.task), return_exceptions=True)

    def _begun(self, workflow_id: str, start: SessionInput, call: ToolCallPart) -> HeldCall | Finished:
        servers = {server.name: server for server in start.agent.definition.mcp_servers}
        if (server := servers.get(call.mcp_server_name)) is None:
            return Finished(_text(f"The agent has no MCP server {call.mcp_server_name!r} any more."), "error")
        held = HeldCall(server)
        held.task = asyncio.create_task(self._finish(workflow_id, start, call, held))
        held.task.add_done_callback(lambda task: _heard(task, held))
        return held

    async def _until_news(
        self, key: tuple[str, EventId], held: HeldCall, record: RunToolInput, limit: timedelta
    ) -> RunToolResult:
        assert held.task is not None
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while not held.task.done() and not held.untold():
                    held.news.clear()
                    await held.news.wait()
                await asyncio.sleep(_TOGETHER.total_seconds() if not held.task.done() else 0)
        except TimeoutError:
            held.cancel()
            words = f"The call gave no result within {limit.total_seconds():g} s. It may have had its effect."
            return _told(record, Finished(_text(words), "timed_out"))
        except asyncio.CancelledError:
            held.cancel()
            raise
        if held.task.done():
            return _told(record, held.task.result())
        questions = held.untold()
        for question in questions:
            question.told = True
        outcome = McpOutcome(questions=tuple(each.shown() for each in questions), queue=await self._own_queue())
        self._held[key] = held
        loop = asyncio.get_running_loop()
        held.expiry = loop.call_later(_LONGEST_WAIT.total_seconds(), self.abandon, *key)
        return RunToolResult(tool_use_id=record.tool_use_id, mcp=outcome)

    # --- the call itself -------------------------------------------------------------------------------------------

    async def _finish(self, workflow_id: str, start: SessionInput, call: ToolCallPart, held: HeldCall) -> Finished:
        begun = False
        for attempt in range(1, _ATTEMPTS + 1):
            connection: Connection | None = None
            try:
                connection = await self._pool.get(workflow_id, start, held.server)
                result = await _result(connection, call, held)
            except ServerLostError as error:
                if connection is not None:
                    self._pool.discard((workflow_id, held.server), connection)
                begun = begun or not error.refused
                again = not error.hopeless and (error.refused or call.idempotent)
                if not again or attempt == _ATTEMPTS:
                    return _lost(error, call, begun=begun)
                await asyncio.sleep(_PAUSE.total_seconds() * 2 ** (attempt - 1))
            except MCPError as error:
                changed = connection is not None and connection.change_of_tools()
                return Finished(_text(_words(error)), "error", tools_changed=changed)
            except ValidationError as error:
                words = f"The tool ran, and its answer is no result: {error.errors()[0]['msg']}"
                return Finished(_text(words), "error")
            except Exception as error:
                # Whatever the library makes of a server that does not keep to the protocol.
                return Finished(_text(f"The call failed: {type(error).__name__}: {error}"[:2000]), "error")
            else:
                outcome: ToolOutcome = "error" if result.is_error else "ok"
                content = blocks(result) or (_text("The tool failed without a word.") if result.is_error else ())
                return Finished(content, outcome, tools_changed=connection.change_of_tools())
        raise AssertionError("the loop returns")


_GONE = Finished(
    (
        TextBlock(
            text="The MCP server asked a question, and the connection to it was lost before the answer came. "
            "The call was given up."
        ),
    ),
    "error",
)


async def _result(connection: Connection, call: ToolCallPart, held: HeldCall) -> types.CallToolResult:
    """The result of a call, however often the server wants to know something first."""

    async def report(progress: float, total: float | None, message: str | None) -> None:
        share = f"{progress:g}/{total:g}" if total is not None else f"{progress:g}"
        held.progress(f"{message} ({share})" if message else share)

    request = types.CallToolRequestParams(name=call.mcp_tool_name, arguments=dict(call.input))
    listed = False
    for _ in range(_ROUNDS):
        try:
            result = await connection.call(request, held, report)
        except MCPError as error:
            if error.code != types.HEADER_MISMATCH or listed:
                raise
            # The server wants arguments in headers, by what its list of tools says.
            await connection.list_tools()
            listed = True
            continue
        if isinstance(result, types.CallToolResult):
            return result
        responses = await _responses(result, held)
        request = request.model_copy(update={"input_responses": responses, "request_state": result.request_state})
    raise MCPError(types.INTERNAL_ERROR, f"the server asked for something {_ROUNDS} times and gave no result")


async def _responses(result: types.InputRequiredResult, held: HeldCall) -> dict[str, types.InputResponse] | None:
    if not result.input_requests:
        await asyncio.sleep(_PAUSE.total_seconds())
        return None
    asked: list[Awaitable[types.ElicitResult]] = []
    for request in result.input_requests.values():
        if not isinstance(request, types.ElicitRequest):
            raise MCPError(types.INVALID_REQUEST, f"the server asks for {request.method}, which sojourn does not do")
        asked.append(held.ask(request.params))
    answers = await asyncio.gather(*asked)
    return dict(zip(result.input_requests, answers, strict=True))


async def _settle(held: HeldCall, record: RunToolInput, answers: Answers) -> None:
    """Give the server what has been answered. What is no answer is asked again."""
    for question in list(held.questions):
        if question.answer.done():
            continue
        if question.id in record.withdrawn:
            question.answer.set_result(WITHDRAWN)
        elif question.id in record.answered:
            try:
                question.answer.set_result(read_answer(question, await answers(question.id)))
            except AnswerError as error:
                question.again(str(error))
    # What was answered takes its question off the list.
    await asyncio.sleep(0)


def _lost(error: ServerLostError, call: ToolCallPart, *, begun: bool) -> Finished:
    if not begun:
        return Finished(_text(f"The tool did not run: {error}"), "error", error.failure)
    if call.idempotent:
        return Finished(_text(f"The tool gave no result: {error}"), "error", error.failure)
    words = f"Outcome unknown: {error}, and the call may have had its effect. Check before trying again."
    return Finished(_text(words), "unknown", error.failure)


def _told(record: RunToolInput, finished: Finished) -> RunToolResult:
    return RunToolResult(
        tool_use_id=record.tool_use_id,
        content=finished.content,
        outcome=finished.outcome,
        mcp=McpOutcome(tools_changed=finished.tools_changed, failure=finished.failure),
    )


def _words(error: MCPError) -> str:
    if error.code == types.URL_ELICITATION_REQUIRED:
        pages = UrlElicitationRequiredError.from_error(error.error).elicitations
        listed = "; ".join(f"{page.message}: {page.url}" for page in pages)
        return f"{error.message}. Before the call is made again the user must visit: {listed}"[:2000]
    return " ".join(error.message.split())[:2000] or f"The server refused the call with error {error.code}."


def _text(words: str) -> tuple[ContentBlock, ...]:
    return (TextBlock(text=words),)


def _heard(task: asyncio.Task[Finished], held: HeldCall) -> None:
    held.news.set()
    if not task.cancelled():
        # Asked for, so that asyncio does not report the failure of a call that was given up.
        task.exception()
