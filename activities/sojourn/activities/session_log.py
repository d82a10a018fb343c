"""The worker's view of session logs: a cache that reads on from where it last stopped.

The conversation of a session is kept between its steps, so a step costs one read of the few events that are new. A
cold cache (another worker, a restart) reads the whole chain, about 12 µs an event (temporal.md §1).
"""

import asyncio
from collections import OrderedDict, deque
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.activities.conversation import Conversation
from sojourn.types.chain import TRANSIENT, ChainReader
from sojourn.types.error import CheckpointError
from sojourn.types.event import UserCustomToolResult
from sojourn.types.history import Stored
from sojourn.types.id import EventId
from sojourn.types.log import LogCursor
from sojourn.types.mcp import ListMcpToolsInput
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    Record,
    RunToolResult,
    ToolCallPart,
    UserEvents,
)
from sojourn.types.session import SessionInput

_PATIENCE = timedelta(seconds=10)
"""How long one read may take. What is looked for exists already, so one that takes longer is asked again."""

_OUTAGE = timedelta(seconds=60)
"""How long a server may be away, or too busy to answer, while an activity reads."""
_AGAIN = timedelta(milliseconds=200)


class SessionLog:
    """One session's log as far as this worker has read it."""

    def __init__(self, client: Client, workflow_id: str) -> None:
        self._client = client
        self._workflow_id = workflow_id
        self._lock = asyncio.Lock()
        self._forget()

    def _forget(self) -> None:
        self._reader: ChainReader | None = None
        self._start: SessionInput | None = None
        self._cursor: LogCursor | None = None
        self._unfolded: deque[Stored] = deque()
        self._conversation = Conversation()
        self._folded: EventId | None = None
        self._answer: CallModelResult | None = None
        self._answered: dict[EventId, ToolCallPart] = {}
        self._results: dict[EventId, RunToolResult] = {}
        self._run_id = ""
        self._ahead: set[tuple[type[Record], EventId] | None] = set()

    @property
    def start(self) -> SessionInput | None:
        """The input of the latest run that was read; ``None`` before the first reading."""
        return self._start

    async def context(
        self, run_id: str, record: CallModelInput | CompactContextInput
    ) -> tuple[SessionInput, Conversation]:
        """What a step or a compaction is about: the run's input and the conversation up to its scheduling.

        Raises:
            CheckpointError: The log does not contain the step.
        """
        async with self._lock:
            if not self._fold_own(run_id, record):
                while not self._fold_to(record.step):
                    await self._read(run_id)
            self._run_id = run_id
            assert self._start is not None
            return self._start, self._conversation

    async def call(self, run_id: str, tool_use_id: EventId) -> ToolCallPart:
        """The tool call with this event id.

        Raises:
            CheckpointError: The log does not contain the call.
        """
        if (known := self._answered.get(tool_use_id)) is not None:
            return known
        async with self._lock:
            while (found := self._find(tool_use_id)) is None:
                await self._read(run_id)
            return found

    async def listing(self, run_id: str, record: ListMcpToolsInput) -> SessionInput:
        """What the run started from that schedules a listing of MCP servers.

        Raises:
            CheckpointError: The log does not contain the listing.
        """
        async with self._lock:
            while not any(record.id == getattr(each.record, "id", None) for each in self._unfolded):
                await self._read(run_id)
            assert self._start is not None
            return self._start

    async def answer(self, run_id: str, question_id: EventId) -> UserCustomToolResult:
        """What the client has answered to the question of an MCP server.

        Raises:
            CheckpointError: The log does not contain an answer.
        """
        async with self._lock:
            while (found := self._find_answer(question_id)) is None:
                await self._read(run_id)
            return found

    def remember(self, result: CallModelResult) -> None:
        """Keep an answer that this worker has just produced, to spare its tools and the next step a read."""
        self._answer = result
        self._answered = {call.id: call for call in result.calls}
        self._results = {}

    def remember_result(self, result: RunToolResult) -> None:
        """Keep the result of a call that is attempted only once, to spare the next step a read."""
        if result.is_final and result.tool_use_id in self._answered:
            self._results[result.tool_use_id] = result

    def _fold_own(self, run_id: str, record: CallModelInput | CompactContextInput) -> bool:
        """Fold a step that follows on what this very worker has done, without reading what it knows.

        Sound, because the ids of an answer's calls are of one attempt: that all of them have run here, once, means
        that the answer in the log is ours, and the results too. Whatever else came meanwhile (a message, an approval,
        another worker's result, a compaction) makes it false, and the log is read. What was folded so is skipped when
        it is read.
        """
        if isinstance(record, CompactContextInput) or record.compacted or record.listed:
            return False
        answer = self._answer
        if answer is None or answer.step != self._folded or self._run_id != run_id or self._unfolded:
            return False
        if record.consumes or not answer.calls or set(self._results) != set(self._answered):
            return False
        # An approval may say more than that the call may run.
        if any(call.permission == "ask" for call in answer.calls):
            return False
        records: list[Record] = [answer, *(self._results[call.id] for call in answer.calls), record]
        for known in records:
            self._conversation.feed(known)
            self._ahead.add(_identity(known))
        self._folded = record.step
        return True

    async def _read(self, run_id: str) -> None:
        reader = self._reader or ChainReader(self._client, self._workflow_id, run_id)
        run = reader.run
        try:
            records = await _read_on(reader)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                # Perhaps the session was deleted and another has its id: the next attempt reads from the beginning.
                self._forget()
            raise
        if self._reader is None and run.previous_run_id:
            # A cold cache began with the latest run: the conversation begins with the first.
            self._reader = ChainReader(self._client, self._workflow_id, run.first_run_id)
            return
        self._reader = reader
        if records is None:
            raise CheckpointError(f"the log of {self._workflow_id!r} ends before the step that is to run")
        self._start = run.start or self._start
        self._unfolded.extend(records)

    def _fold_to(self, step: EventId) -> bool:
        while self._unfolded and self._folded != step:
            record = self._unfolded.popleft().record
            if self._was_folded(record):
                continue
            self._fold(record)
            if isinstance(record, CallModelInput | CompactContextInput):
                self._folded = record.step
        return self._folded == step

    def _was_folded(self, record: Record) -> bool:
        if (identity := _identity(record)) not in self._ahead:
            return False
        self._ahead.discard(identity)
        return True

    def _fold(self, record: Record) -> None:
        if not isinstance(record, UserEvents):
            self._conversation.feed(record)
            return
        if self._cursor is None:
            assert self._start is not None
            self._cursor = LogCursor(self._start.session_id)
        self._conversation.feed(record, self._cursor.accept(record))

    def _find(self, tool_use_id: EventId) -> ToolCallPart | None:
        if (open_call := self._conversation.call(tool_use_id)) is not None:
            return open_call
        answers = (stored.record for stored in self._unfolded if isinstance(stored.record, CallModelResult))
        return next((call for answer in answers for call in answer.calls if call.id == tool_use_id), None)

    def _find_answer(self, question_id: EventId) -> UserCustomToolResult | None:
        if (folded := self._conversation.answer(question_id)) is not None:
            return folded
        signals = (stored.record for stored in self._unfolded if isinstance(stored.record, UserEvents))
        sent = (event for signal in signals for event in signal.sent if isinstance(event, UserCustomToolResult))
        return next((event for event in sent if event.custom_tool_use_id == question_id), None)


def _identity(record: Record) -> tuple[type[Record], EventId] | None:
    """What tells a record that was folded ahead from all others; ``None`` for kinds that never are."""
    match record:
        case CallModelInput() | CallModelResult():
            return type(record), record.step
        case RunToolResult():
            return type(record), record.tool_use_id
        case _:
            return None


async def _read_on(reader: ChainReader) -> list[Stored] | None:
    """The next page, also from a server that is away for a while: a tool that runs once must not be lost to that.

    Returns:
        Records; ``None`` if there is nothing more, because the chain has ended or is another than we think.
    """
    end = asyncio.get_running_loop().time() + _OUTAGE.total_seconds()
    while True:
        try:
            page = await reader.read(wait=_PATIENCE)
            if page is not None or reader.ended or asyncio.get_running_loop().time() > end:
                return page
        except RPCError as error:
            if error.status not in TRANSIENT or asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(_AGAIN.total_seconds())


class SessionLogs:
    """The logs of the sessions that this worker has served last."""

    def __init__(self, client: Client, *, capacity: int = 256) -> None:
        """Make an empty cache.

        Args:
            client: Connected to the namespace of the sessions.
            capacity: Sessions kept; the one unused for the longest time is dropped first.
        """
        self._client = client
        self._capacity = capacity
        self._logs: OrderedDict[str, SessionLog] = OrderedDict()

    def get(self, workflow_id: str) -> SessionLog:
        """The session's log, from the cache or cold."""
        log = self._logs.pop(workflow_id, None) or SessionLog(self._client, workflow_id)
        self._logs[workflow_id] = log
        if len(self._logs) > self._capacity:
            self._logs.popitem(last=False)
        return log
