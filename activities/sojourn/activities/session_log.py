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
from sojourn.types.chain import ChainReader
from sojourn.types.error import CheckpointError
from sojourn.types.history import Stored
from sojourn.types.id import EventId
from sojourn.types.log import LogCursor
from sojourn.types.record import CallModelInput, CallModelResult, Record, ToolCallPart, UserEvents
from sojourn.types.session import SessionInput

_PATIENCE = timedelta(seconds=10)
"""What is looked for exists already, so a read that waits this long means that the log is not what we think it is."""


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
        self._answered: dict[EventId, ToolCallPart] = {}
        self._folded: EventId | None = None

    async def context(self, run_id: str, step: EventId) -> tuple[SessionInput, Conversation]:
        """What the model gets to see in a step: the run's input and the conversation up to the step's scheduling.

        Raises:
            CheckpointError: The log does not contain the step.
        """
        async with self._lock:
            while not self._fold_to(step):
                await self._read(run_id)
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

    def remember(self, result: CallModelResult) -> None:
        """Keep the calls of an answer that this worker has just produced, to spare their tools a read."""
        self._answered = {call.id: call for call in result.calls}

    async def _read(self, run_id: str) -> None:
        reader = self._reader or ChainReader(self._client, self._workflow_id, run_id)
        run = reader.run
        try:
            records = await reader.read(wait=_PATIENCE)
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
            self._fold(record)
            if isinstance(record, CallModelInput):
                self._folded = record.step
        return self._folded == step

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
