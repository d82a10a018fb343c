"""What the ledger in a session's workspace must hold, as the session's log tells it. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from tests.chaos.shell import READ, SHELL, keys, written

from sojourn.types import AgentToolResult, AgentToolUse, EventId, SessionEvent, text_of
from sojourn.types.event import SessionErrorEvent

MOVED = "workspace_moved_error"
DID_NOT_RUN = "The tool did not run"

_AS_OF = re.compile(r"as of (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def ledger_faults(log: Sequence[SessionEvent]) -> Iterator[str]:
    """Every way in which the ledger is not as the results say, wherever a command read it."""
    ledger = _Ledger()
    for event in log:
        match event:
            case AgentToolUse(name=name) if name == SHELL:
                ledger.called(event)
            case AgentToolResult():
                yield from ledger.heard(event)
            case SessionErrorEvent() if event.error.type == MOVED:
                ledger.moved(event.error.message)
            case SessionErrorEvent() if event.error.type == "workspace_error":
                yield f"the workspace failed: {event.error.message}"
            case _:
                continue


def read_back(log: Sequence[SessionEvent]) -> bool:
    """Whether the ledger was read after the last command that wrote into it had its result."""
    written_at = read_at = 0
    calls = _calls(log)
    for event in log:
        if not isinstance(event, AgentToolResult) or (call := calls.get(event.tool_use_id)) is None:
            continue
        if written(call.input.get("command")):
            written_at = event.seq
        elif event.outcome == "ok" and call.seq > written_at:
            read_at = event.seq
    return not written_at or read_at > written_at


def _calls(log: Sequence[SessionEvent]) -> dict[EventId, AgentToolUse]:
    return {event.id: event for event in log if isinstance(event, AgentToolUse) and event.name == SHELL}


class _Ledger:
    """Follows a log."""

    def __init__(self) -> None:
        self._running: dict[EventId, AgentToolUse] = {}
        self._known: set[str] = set()
        """Keys of all commands so far."""
        self._never: set[str] = set()
        """Keys of commands that did not run."""
        self._owed: dict[str, datetime] = {}
        """Keys that must be there, with the time of the result that said so."""
        self._unsure: set[EventId] = set()
        """Calls during which the workspace moved: they ran before or after that."""
        self._owed_at: dict[EventId, set[str]] = {}
        """What was owed when a reading began."""

    def called(self, call: AgentToolUse) -> None:
        command = call.input.get("command")
        self._running[call.id] = call
        self._known |= {written(command)}
        if command == READ:
            self._owed_at[call.id] = set(self._owed)

    def moved(self, text: str) -> None:
        """It is as of a checkpoint now, or empty."""
        found = _AS_OF.search(text)
        at = datetime.strptime(found.group(1), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if found else None
        self._owed = {key: time for key, time in self._owed.items() if at is not None and time <= at}
        self._unsure |= self._running.keys()

    def heard(self, result: AgentToolResult) -> Iterator[str]:
        call = self._running.pop(result.tool_use_id, None)
        if call is None:
            return
        key = written(call.input.get("command"))
        if key and result.outcome == "ok" and call.id not in self._unsure:
            assert result.processed_at is not None
            self._owed[key] = result.processed_at
        if key and result.outcome == "error" and DID_NOT_RUN in text_of(result.content):
            self._never.add(key)
        if call.id in self._owed_at and result.outcome == "ok":
            yield from self._faults(call, keys(text_of(result.content)))

    def _faults(self, call: AgentToolUse, found: Sequence[str]) -> Iterator[str]:
        for key, count in Counter(found).items():
            if count > 1:
                yield f"the command {key} had its effect {count} times, as {call.id} read"
            if key not in self._known:
                yield f"{call.id} read {key}, which no command of the session has written"
            if key in self._never:
                yield f"the command {key} is said not to have run and had its effect"
        for key in sorted(self._owed_at[call.id] & self._owed.keys() - set(found)):
            yield f"the command {key} is reported as done, and {call.id} did not find its effect in the ledger"
