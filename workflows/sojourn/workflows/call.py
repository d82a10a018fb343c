"""The tool calls of one model step: which may run, which wait, and the answers that come for them. No Temporal."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sojourn.types.builtin import Place
from sojourn.types.content import TextBlock
from sojourn.types.event import (
    AgentMcpToolResult,
    AgentToolResult,
    ToolOutcome,
    ToolResultEvent,
    UserCustomToolResult,
    UserToolConfirmation,
    UserToolResult,
)
from sojourn.types.id import EventId
from sojourn.types.mcp import ELICITATION, McpOutcome
from sojourn.types.record import ToolCallPart
from sojourn.types.session import CallState, PendingKind

_WORDS: dict[ToolOutcome, str] = {
    "denied": "The call was not permitted. The tool did not run.",
    "interrupted": "The call was interrupted. Try again if it is still needed.",
    "timed_out": "The call gave no result in time.",
    "unknown": "Outcome unknown: the attempt was lost and may have had its effect. Check before trying again.",
    "error": "There is no tool of this name.",
    "ok": "",
}


@dataclass
class Call:
    """One tool call, as far as it has come."""

    id: EventId
    name: str
    kind: str
    permission: str
    idempotent: bool
    timeout: timedelta | None
    asked_at: datetime
    approved: bool = False
    settled: bool = False
    started: bool = False
    title: str = ""
    place: Place | None = None
    refusal: str = ""
    """What the model is told if it does not run; not carried, because such a call is settled at once."""
    mcp_server_name: str = ""
    asked_by: EventId | None = None
    """The call whose MCP server asks this question; ``None`` for a call of the model."""
    queue: str = ""
    """Task queue of the worker that can answer the question."""
    answered: bool = False
    """Of a settled question: by the client, not by the end of its time."""

    @property
    def waits(self) -> bool:
        """Whether only the client can move it on."""
        return not self.settled and (self.kind == "custom" or self.place == "client" or self.unconfirmed)

    @property
    def unconfirmed(self) -> bool:
        """Whether it may not run before the client has allowed it."""
        return self.kind != "custom" and self.permission == "ask" and not self.approved

    @property
    def awaits(self) -> PendingKind:
        """What it waits for, if it waits."""
        if self.unconfirmed:
            return "confirmation"
        return "tool_result" if self.place == "client" else "custom_tool_result"

    @property
    def ready(self) -> bool:
        """Whether it may run and has not been started."""
        return not (self.settled or self.started or self.waits)

    def result(self, outcome: ToolOutcome, words: str | None = None) -> ToolResultEvent:
        """The result that the workflow itself gives the call."""
        content, is_error = (TextBlock(text=words or _WORDS[outcome]),), outcome != "ok"
        if self.kind == "mcp":
            return AgentMcpToolResult(mcp_tool_use_id=self.id, content=content, is_error=is_error, outcome=outcome)
        return AgentToolResult(tool_use_id=self.id, content=content, is_error=is_error, outcome=outcome)


@dataclass(frozen=True)
class Resumption:
    """How a call to an MCP server goes on after questions of the server."""

    queue: str
    answered: tuple[EventId, ...]
    withdrawn: tuple[EventId, ...]


class Calls:
    """The tool calls of the current step, in the model's order."""

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._calls = {call.id: call for call in calls}

    @classmethod
    def asked(cls, parts: Iterable[ToolCallPart], *, at: datetime) -> "Calls":
        """The calls of a model's answer."""
        return cls(
            Call(
                id=part.id,
                name=part.name,
                kind=part.kind,
                permission=part.permission,
                idempotent=part.idempotent,
                timeout=part.timeout,
                asked_at=at,
                title=_title(part),
                place=part.place,
                refusal=part.refusal,
                mcp_server_name=part.mcp_server_name,
            )
            for part in parts
        )

    @classmethod
    def carried(cls, states: Iterable[CallState], *, now: datetime) -> "Calls":
        """The calls that the previous run left open."""
        return cls(
            Call(
                id=state.id,
                name=state.name,
                kind=state.kind,
                permission=state.permission,
                idempotent=state.idempotent,
                timeout=state.timeout,
                asked_at=state.asked_at or now,
                approved=state.approved,
                settled=state.settled,
                title=state.name,
                place=state.place,
                mcp_server_name=state.mcp_server_name,
                asked_by=state.asked_by or None,
                queue=state.queue,
                answered=state.answered,
            )
            for state in states
        )

    def carry(self) -> tuple[CallState, ...]:
        """What the next run must know."""
        return tuple(
            CallState.model_validate(
                {
                    "id": call.id,
                    "name": call.name,
                    "kind": call.kind,
                    "permission": call.permission,
                    "idempotent": call.idempotent,
                    "timeout": call.timeout,
                    "asked_at": call.asked_at,
                    "approved": call.approved,
                    "settled": call.settled,
                    "place": call.place,
                    "mcp_server_name": call.mcp_server_name,
                    "asked_by": call.asked_by or "",
                    "queue": call.queue,
                    "answered": call.answered,
                }
            )
            for call in self._calls.values()
        )

    @property
    def open(self) -> list[Call]:
        """Those without a result."""
        return [call for call in self._calls.values() if not call.settled]

    @property
    def waiting(self) -> list[Call]:
        """Those that only the client can move on."""
        return [call for call in self._calls.values() if call.waits]

    @property
    def ready(self) -> list[Call]:
        """Those that may run and have not been started."""
        held = {call.asked_by for call in self._calls.values() if call.asked_by and not call.settled}
        return [call for call in self._calls.values() if call.ready and call.id not in held]

    @property
    def asking(self) -> dict[EventId, str]:
        """The calls whose servers wait for answers, each with the task queue of its worker."""
        return {call.asked_by: call.queue for call in self._calls.values() if call.asked_by}

    def ask(self, call: Call, outcome: McpOutcome, *, at: datetime) -> None:
        """A call's server wants answers: it goes on when all of them have come."""
        call.started = False
        for question in outcome.questions:
            self._calls[question.id] = Call(
                id=question.id,
                name=ELICITATION,
                kind="custom",
                permission="allow",
                idempotent=False,
                timeout=None,
                asked_at=at,
                title=f"{ELICITATION}({question.mcp_server_name})",
                asked_by=call.id,
                queue=outcome.queue,
            )

    def resume(self, call: Call) -> Resumption | None:
        """How a call goes on whose server's questions are settled, which are forgotten; ``None`` if it only begins."""
        questions = [each for each in self._calls.values() if each.asked_by == call.id]
        for each in questions:
            del self._calls[each.id]
        if not questions:
            return None
        return Resumption(
            questions[0].queue,
            answered=tuple(each.id for each in questions if each.answered),
            withdrawn=tuple(each.id for each in questions if not each.answered),
        )

    def confirm(self, event: UserToolConfirmation) -> Call | None:
        """Take the answer to an ``ask``. The first answer counts; one for anything else changes nothing.

        Returns:
            The call if it is denied by this answer, for the caller to settle.
        """
        call = self._calls.get(event.tool_use_id)
        if call is None or call.settled or not call.unconfirmed:
            return None
        if event.result == "deny":
            return call
        call.approved = True
        return None

    def answer(self, event: UserCustomToolResult | UserToolResult) -> Call | None:
        """Take the result of a call that ran with the client. The first counts; one for anything else changes nothing.

        Returns:
            The call that is settled by it.
        """
        if isinstance(event, UserToolResult):
            call = self._calls.get(event.tool_use_id)
            fits = call is not None and call.place == "client" and not call.unconfirmed
        else:
            call = self._calls.get(event.custom_tool_use_id)
            fits = call is not None and call.kind == "custom"
        if call is None or call.settled or not fits:
            return None
        call.settled = call.answered = True
        return call

    def deadline(self, default: timedelta | None) -> datetime | None:
        """When the first custom tool's time is up; ``None`` if none is limited."""
        ends = [end for call in self.waiting if (end := _end(call, default)) is not None]
        return min(ends, default=None)

    def expired(self, default: timedelta | None, *, now: datetime) -> list[Call]:
        """The custom tools whose time is up."""
        return [call for call in self.waiting if (end := _end(call, default)) is not None and end <= now]


def _end(call: Call, default: timedelta | None) -> datetime | None:
    limit = call.timeout if call.timeout is not None else default
    return call.asked_at + limit if call.kind == "custom" and limit is not None else None


def _title(part: ToolCallPart) -> str:
    """The call as a reader of the Web UI wants to see it: a name and the start of its arguments."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in part.input.items())
    text = f"{part.name}({arguments})"
    return text if len(text) <= 120 else f"{text[:119]}…"
