"""Segments: what was read from the server comes back from the archive, whoever wrote it."""

import json
from datetime import UTC, datetime
from typing import get_args

import pytest

from sojourn.types import (
    AgentDefinition,
    AgentId,
    AgentVersion,
    CheckpointError,
    Owner,
    SessionId,
    SessionStatus,
    Store,
)
from sojourn.types.archive import _KINDS, Archive, ArchivedSession, Segment, SegmentHeader, index_path, indexed_id
from sojourn.types.event import SessionRunning, UserMessage
from sojourn.types.history import Stored
from sojourn.types.id import EventId
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    TextPart,
    UserEvents,
)
from sojourn.types.session import SessionInfo, SessionInput, SessionState

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ID = "acme/sesn_1"
RECORDS: list[Record] = [
    UserEvents(sent=(UserMessage.text("hello\u2028there\n\x00"),)),
    CallModelInput(step=EventId("s1"), said=(SessionRunning(),)),
    CallModelResult(step=EventId("s1"), parts=(TextPart(id=EventId("p"), text="hi", state={"deep": [1, None]}),)),
    RunToolInput(tool_use_id=EventId("t"), name="add"),
    RunToolResult(tool_use_id=EventId("t"), outcome="timed_out"),
    Said(said=(SessionRunning(),)),
]


def _segment(*, seq: int = 0) -> Segment:
    agent = AgentVersion(id=AgentId("agent_1"), version=1, definition=AgentDefinition(name="a", model="scripted:echo"))
    state = SessionState(seq=seq, user_events=0, status=SessionStatus.IDLE) if seq else None
    start = SessionInput(session_id=SessionId("sesn_1"), owner=Owner("acme", "ada"), agent=agent, state=state)
    header = SegmentHeader(run_id="r2", first_run_id="r1", previous_run_id="r1", next_run_id="r3", start=start)
    return Segment(header, [Stored(record, AT) for record in RECORDS])


def _changed(segment: Segment, line: int, **fields: object) -> bytes:
    lines = [json.loads(each) for each in segment.to_bytes().splitlines()]
    lines[line] |= fields
    return "\n".join(map(json.dumps, lines)).encode()


def test_every_kind_of_record_survives() -> None:
    segment = _segment(seq=41)

    found = Segment.from_bytes(segment.to_bytes())

    assert found == segment
    assert found.to_bytes() == segment.to_bytes()


def test_lines_tell_people_the_numbers_of_their_events() -> None:
    lines = [json.loads(line) for line in _segment(seq=41).to_bytes().splitlines()[1:]]

    assert [line["seq"] for line in lines] == [42, 43, 45, 47, 47, 48]


def test_additions_of_a_newer_release_are_ignored() -> None:
    segment = _segment()

    assert Segment.from_bytes(_changed(segment, 0, colour="red")) == segment
    assert Segment.from_bytes(_changed(segment, 2, colour="red")) == segment


@pytest.mark.parametrize(("line", "fields"), [(0, {"format": 2}), (1, {"kind": "telepathy"})], ids=["format", "kind"])
async def test_what_a_newer_release_alone_can_read_is_said_not_skipped(line: int, fields: dict[str, object]) -> None:
    archive = Archive(Store.open("memory://"))
    await archive.write(ID, _changed(_segment(), line, **fields), run_id="r2")

    with pytest.raises(CheckpointError, match="newer release"):
        await archive.read(ID, "r2")


async def test_a_run_that_is_not_there() -> None:
    archive = Archive(Store.open("memory://"))

    assert await archive.read(ID, "r2") is None
    assert not await archive.has(ID, "r2")
    assert await archive.session(ID) is None
    assert await archive.entries("acme") == []


async def test_the_latest_end_is_listed_first() -> None:
    archive = Archive(Store.open("memory://"))
    for day in (2, 9, 5):
        info = SessionInfo(
            id=SessionId(f"day-{day}"),
            owner=Owner("acme", "ada"),
            agent_id=AgentId("agent_1"),
            status=SessionStatus.ARCHIVED,
            created_at=AT,
            closed_at=AT.replace(day=day),
        )
        await archive.enter(f"acme/{info.id}", ArchivedSession(info=info, run_id="r"))

    paths = await archive.entries("acme")

    assert [indexed_id(path) for path in paths] == ["day-9", "day-5", "day-2"]
    assert await archive.entries("acme", after=paths[0]) == paths[1:]
    assert await archive.entries("acm") == []
    found = await archive.entry(paths[0])
    assert found is not None
    assert index_path(found.info) == paths[0]


async def test_deleting_leaves_nothing() -> None:
    archive = Archive(Store.open("memory://"))
    await archive.write(ID, _segment().to_bytes(), run_id="r2")
    await archive.begin_deletion(ID, Owner("acme", "ada"))
    assert await archive.deletion(ID) == Owner("acme", "ada")

    await archive.delete(ID)

    assert await archive.is_gone(ID)
    assert await archive.deletion(ID) is None


def test_there_is_a_line_for_every_kind_of_record() -> None:
    assert set(_KINDS) == set(get_args(Record))
