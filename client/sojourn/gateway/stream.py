"""The live stream of a session's events."""

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from sojourn.gateway.endpoint import Call
from sojourn.gateway.error import GatewayError, error_body, refusal
from sojourn.gateway.projection import Place, Shown, Subject, reading_from, shown_after
from sojourn.gateway.sse import OPENED, EventStream, frame
from sojourn.gateway.wire import event as wire
from sojourn.gateway.wire.log import StreamQuery
from sojourn.types.error import SessionNotFoundError, SojournError
from sojourn.types.event import SessionEvent, SessionTerminated
from sojourn.types.id import SessionId, derived_event_id
from sojourn.types.preview import EventDelta, EventStart, Preview, ToolProgress

logger = logging.getLogger("sojourn.gateway")

Events = AsyncGenerator[SessionEvent | Preview, None]


async def open_stream(call: Call[None, StreamQuery]) -> EventStream:
    """The stream that a request asks for. Whatever is sent after this returned will be seen in it.

    Raises:
        InvalidRequestError: It is to begin behind something that is no event's id.
        SessionNotFoundError: There is no such session, or it is another owner's.
    """
    session_id = SessionId(call.path["session_id"])
    after = _begin(call)
    end = await call.runtime.log_end(session_id, owner=call.owner)
    subscription = AsyncExitStack()
    events = await subscription.enter_async_context(
        call.runtime.follow(
            session_id,
            from_seq=reading_from(after),
            previews=bool(call.query.event_deltas),
            owner=call.owner,
        )
    )
    frames = EventFrames(call, Subject(session_id, end.agent.name), after)
    return EventStream(
        frames.all(events),
        streams=call.gateway.streams,
        closing=call.gateway.closing,
        ping=call.gateway.options.ping,
        close=subscription.aclose,
    )


def _begin(call: Call[None, StreamQuery]) -> Place | None:
    """Behind which event the stream begins. A client that connects again tells more than the URL it began with."""
    if last := call.request.headers.get("last-event-id"):
        return Place.parse(last, param="Last-Event-ID")
    given = call.query.from_seq
    return Place.parse(given, param="from_seq") if given is not None else None


class EventFrames:
    """What one client is sent."""

    def __init__(self, call: Call[None, StreamQuery], subject: Subject, after: Place | None) -> None:
        self._call = call
        self._subject = subject
        self._after = after
        self._previewed = frozenset(call.query.event_deltas)

    async def all(self, events: Events) -> AsyncGenerator[bytes, None]:
        """Everything from the first byte to the last."""
        yield OPENED
        try:
            async for each in shown_after(self._after, self._until_the_end(events), self._subject, self._past):
                if isinstance(each, Shown):
                    yield frame(each.event.model_dump_json(), id=str(each.place))
                elif self._is_wanted(each):
                    yield frame(each.model_dump_json())
        except SessionNotFoundError:
            yield self._deleted()
        except Exception as error:
            yield self._failed(error)

    async def _until_the_end(self, events: Events) -> Events:
        async for event in events:
            yield event
            if isinstance(event, SessionTerminated):
                return

    def _is_wanted(self, preview: Preview) -> bool:
        match preview:
            case EventStart():
                return preview.event.type in self._previewed
            case EventDelta():
                # Thoughts have no text on the wire, so it is a message's.
                return "agent.message" in self._previewed
            case ToolProgress():
                return False

    async def _past(self, seq: int) -> Iterable[SessionEvent]:
        call = self._call
        return await call.gateway.logbooks.past(call.runtime, self._subject.session_id, call.owner, seq)

    def _deleted(self) -> bytes:
        """The last event. It has no place: there is no log any more."""
        id = derived_event_id(self._subject.session_id, "deleted")
        return frame(wire.SessionDeleted(id=id, processed_at=datetime.now(UTC)).model_dump_json())

    def _failed(self, error: Exception) -> bytes:
        known = isinstance(error, GatewayError | SojournError)
        if not known:
            logger.error("a stream failed", exc_info=error, extra={"request_id": self._call.request_id})
        text = f"the gateway failed; its log has more under {self._call.request_id}"
        told = refusal(error) if isinstance(error, GatewayError | SojournError) else GatewayError(500, text)
        return frame(error_body(told, self._call.request_id), event="error")
