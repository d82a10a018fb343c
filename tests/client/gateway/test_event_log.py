"""Lists of events and threads: over HTTP with the official SDK, and for random logs without a server."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.gateway.test_projection import MANY, SUBJECT, logs, whole

from sojourn.gateway.logbook import Entry, Logbook, Logbooks
from sojourn.gateway.route.event_log import _part
from sojourn.gateway.wire.cursor import cursor
from sojourn.testing import ScriptedTurn
from sojourn.types import RollOver, SessionEvent, SessionNotFoundError, SystemMessage, TextBlock
from sojourn.types.id import SessionId

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

SESSION = SessionId("sesn_01")


def _cursor(order: str, **place: Any) -> str:
    return cursor(f"events {order} {SESSION}", **place)


def _book(log: Iterable[SessionEvent]) -> Logbook:
    book = Logbook(SUBJECT, "run")
    for event in log:
        book.add(event)
    return book


# --- what holds for every log ----------------------------------------------------------------------------------------


@MANY
@given(log=logs)
def test_a_list_has_every_event_once_and_those_that_wait_last(log: list[SessionEvent]) -> None:
    shown = whole(log)
    entries = _book(log).as_of(len(log))

    stamped = {each.original for each in shown if each.original}
    wanted = [each.place for each in shown if each.event.processed_at or each.place.seq not in stamped]
    assert sorted(entry.place for entry in entries) == wanted
    times = [entry.at for entry in entries]
    done = [time for time in times if time is not None]
    assert times == sorted(done) + [None] * (len(times) - len(done))


@MANY
@given(log=logs, data=st.data())
def test_a_list_as_of_an_earlier_end_is_what_it_was_then(log: list[SessionEvent], data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(log)))

    assert _book(log).as_of(end) == _book(log[:end]).as_of(end)


@MANY
@given(log=logs, limit=st.integers(1, 7), backwards=st.booleans(), data=st.data())
def test_the_pages_of_a_list_make_the_list_though_the_log_grows(
    log: list[SessionEvent], limit: int, backwards: bool, data: st.DataObject
) -> None:
    kinds = data.draw(st.sampled_from([set(), {"session.status_idle", "session.usage"}, {"user.message"}]))
    end = data.draw(st.integers(0, len(log)))
    book = _book(log[:end])
    listed = [entry for entry in book.as_of(end) if not kinds or entry.kind in kinds]
    found: list[Entry] = []
    start: int | None = 0
    pages = 0

    while start is not None:
        entries = book.as_of(end)
        page, start = _part(
            entries[::-1] if backwards else entries, start, limit, lambda entry: not kinds or entry.kind in kinds
        )
        assert len(page) == limit or start is None
        found += page
        pages += 1
        if book.seq < len(log):
            book.add(log[book.seq])

    assert found == (listed[::-1] if backwards else listed)
    assert pages == max(-(-len(listed) // limit), 1)


# --- over HTTP -------------------------------------------------------------------------------------------------------


async def _played(stage: "Stage", turns: int = 3, **options: Any) -> "Probe":
    probe = await stage.session(ScriptedTurn(text="done"), **options)
    for number in range(turns):
        await probe.session.send_and_wait(f"{number}")
    await probe.idle(turns)
    return probe


async def _listed(gateway: Any, probe: "Probe", **query: Any) -> list[Any]:
    return [event async for event in await gateway.sdk.beta.sessions.events.list(probe.session.id, **query)]


async def test_the_sdk_pages_through_all_events_in_both_orders(gateway: Any, stage: "Stage") -> None:
    probe = await _played(stage, roll_over=RollOver(max_events=20))
    await probe.session.send(SystemMessage(content=(TextBlock(text="later"),)))
    await probe.caught_up()

    everything = await _listed(gateway, probe)
    by_fives = await _listed(gateway, probe, limit=5)
    backwards = await _listed(gateway, probe, limit=4, order="desc")

    ids = [event.id for event in everything]
    assert len(ids) == len(set(ids))
    assert [event.id for event in by_fives] == ids
    assert [event.id for event in backwards] == ids[::-1]
    assert (everything[-1].type, everything[-1].processed_at) == ("system.message", None)
    times = [event.processed_at for event in everything[:-1]]
    assert times == sorted(times)
    assert [event.type for event in everything[:3]] == [
        "user.message",
        "session.status_running",
        "session.thread_status_running",
    ]


async def test_pages_show_the_list_as_it_was_when_the_first_was_read(gateway: Any, stage: "Stage") -> None:
    probe = await _played(stage)
    whole_list = await _listed(gateway, probe)
    first = await gateway.sdk.beta.sessions.events.list(probe.session.id, limit=5)

    await probe.session.send_and_wait("more")
    rest = [event async for event in await first.get_next_page()]

    assert [event.id for event in [*first.data, *rest]] == [event.id for event in whole_list]
    assert len(await _listed(gateway, probe)) > len(whole_list)


async def test_a_cursor_is_good_on_another_replica(gateway: Any, stage: "Stage") -> None:
    from tests.client.gateway.conftest import served

    probe = await _played(stage)
    first = await gateway.sdk.beta.sessions.events.list(probe.session.id, limit=5)
    await probe.session.send_and_wait("more")
    async with served(stage) as other:
        response = await other.http.get(f"/v1/sessions/{probe.session.id}/events", params={"page": first.next_page})

    rest = [event.id async for event in await first.get_next_page()]
    assert [event["id"] for event in response.json()["data"]] == rest


async def test_events_are_found_by_type_and_time(gateway: Any, stage: "Stage") -> None:
    probe = await _played(stage)
    everything = await _listed(gateway, probe)
    types = ["user.message", "agent.message"]
    middle = everything[len(everything) // 2].processed_at

    def those(check: Any) -> list[str]:
        return [event.id for event in everything if check(event)]

    async def found(**query: Any) -> list[str]:
        return [event.id for event in await _listed(gateway, probe, limit=3, **query)]

    assert await found(types=types) == those(lambda event: event.type in types)
    assert await found(created_at_gt=middle) == those(lambda event: event.processed_at > middle)
    assert await found(created_at_gte=middle) == those(lambda event: event.processed_at >= middle)
    assert await found(created_at_lt=middle) == those(lambda event: event.processed_at < middle)
    assert await found(created_at_lte=middle, types=types) == those(
        lambda event: event.processed_at <= middle and event.type in types
    )
    assert await found(created_at_gt=middle + timedelta(days=1)) == []
    assert await found(types=["agent.thinking"]) == []


async def test_a_list_behind_a_send_has_what_was_sent(gateway: Any, stage: "Stage") -> None:
    """The log is kept in memory, and read on when it has grown."""
    probe = await stage.open(await stage.agent())
    for number in range(1, 4):
        sent = await probe.session.send(f"{number}")
        listed = await _listed(gateway, probe)

        assert [event.id for event in listed][-1] == sent.id
        assert len(listed) == number


async def test_what_is_kept_belongs_to_the_session_and_not_to_its_id(gateway: Any, stage: "Stage") -> None:
    """A session is deleted and its id used again: nothing of the old one is shown."""
    agent = await stage.agent()
    first = await stage.open(agent, session_id="sesn_again")
    await first.session.send("old")
    assert len(await _listed(gateway, first)) == 1
    first.forget()
    await first.session.delete()

    assert (await gateway.http.get(f"/v1/sessions/{first.session.id}/events")).status_code == 404
    second = await stage.open(agent, session_id="sesn_again")
    await second.session.send("new")

    assert [event.content[0].text for event in await _listed(gateway, second)] == ["new"]


async def test_only_so_much_is_kept(stage: "Stage") -> None:
    books = Logbooks(limit_bytes=3000)
    agent = await stage.agent()
    opened: list[Logbook] = []
    for _ in range(6):
        probe = await stage.open(agent)
        await probe.session.send("x" * 400)
        opened.append(await books.open(stage.runtime, probe.session.id, stage.owner))
        assert books.size_bytes <= 3000

    assert 0 < books.size_bytes < sum(book.size_bytes for book in opened)
    large = await stage.open(agent)
    await large.session.send("x" * 4000)
    book = await books.open(stage.runtime, large.session.id, stage.owner)
    assert len(book.as_of(book.seq)) == 1
    with pytest.raises(SessionNotFoundError):
        await books.open(stage.runtime, SessionId("sesn_nothing"), stage.owner)


async def test_an_archived_session_can_be_listed(gateway: Any, stage: "Stage") -> None:
    probe = await _played(stage, 1)
    await probe.session.archive()

    assert (await _listed(gateway, probe))[-1].type == "session.status_terminated"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"order": "up"}, "order"),
        ({"page": "garbage"}, "page"),
        ({"page": "é"}, "page"),
        ({"page": _cursor("asc", end=10**6, start=0)}, "page"),
        ({"page": _cursor("asc", end=1, start=-1)}, "page"),
        ({"page": _cursor("asc", end=0, start=0)}, "page"),
        ({"page": _cursor("asc", end="1", start=0)}, "page"),
        ({"page": _cursor("asc", start=0)}, "page"),
        ({"page": _cursor("desc", end=1, start=0)}, "page"),
        ({"page": cursor("events asc sesn_02", end=1, start=0)}, "page"),
        ({"created_at[gt]": "yesterday"}, "created_at[gt]"),
        ({"created_at[lte]": "2026-01-01T00:00:00"}, "created_at[lte]"),
    ],
)
async def test_a_wrong_query_is_refused(gateway: Any, stage: "Stage", query: Any, parameter: str) -> None:
    await stage.open(await stage.agent(), session_id=str(SESSION))
    response = await gateway.http.get(f"/v1/sessions/{SESSION}/events", params=query)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert parameter in response.json()["error"]["message"]


# --- threads ---------------------------------------------------------------------------------------------------------


async def test_a_session_has_its_primary_thread(gateway: Any, stage: "Stage") -> None:
    probe = await _played(stage, 1)
    threads = gateway.sdk.beta.sessions.threads
    (thread,) = [each async for each in await threads.list(probe.session.id)]
    again = await threads.retrieve(thread.id, session_id=probe.session.id)

    assert thread.id == f"sthr_{probe.session.id.removeprefix('sesn_')}"
    assert (thread.type, thread.session_id, thread.parent_thread_id) == ("session_thread", probe.session.id, None)
    assert (thread.status, thread.agent.name, thread.agent.version) == ("idle", "actor", 1)
    assert again.id == thread.id
    assert again.created_at == thread.created_at
    assert [each async for each in await threads.list(probe.session.id, statuses=["running"])] == []
    assert len([each async for each in await threads.list(probe.session.id, statuses=["idle", "running"])]) == 1


async def test_the_thread_lists_what_its_session_lists(gateway: Any, stage: "Stage") -> None:
    probe = await _played(stage)
    (thread,) = (await gateway.sdk.beta.sessions.threads.list(probe.session.id)).data
    events = gateway.sdk.beta.sessions.threads.events
    listed = [event.id async for event in await events.list(thread.id, session_id=probe.session.id, limit=5)]

    assert listed == [event.id for event in await _listed(gateway, probe)]


@pytest.mark.parametrize("path", ["", "/events", "/stream"])
async def test_a_thread_that_is_none_is_not_found(gateway: Any, stage: "Stage", path: str) -> None:
    probe = await stage.open(await stage.agent())
    response = await gateway.http.get(f"/v1/sessions/{probe.session.id}/threads/sthr_other{path}")

    assert response.status_code == 404


async def test_the_primary_thread_is_not_archived_by_itself(gateway: Any, stage: "Stage") -> None:
    probe = await stage.open(await stage.agent())
    path = f"/v1/sessions/{probe.session.id}/threads/sthr_{probe.session.id.removeprefix('sesn_')}/archive"
    response = await gateway.http.post(path)

    assert response.status_code == 400
    assert "archive the session" in response.json()["error"]["message"]
    async with gateway.client("reader") as reader:
        assert (await reader.post(path)).status_code == 403
    assert (await gateway.http.post(path.replace("sthr_", "sthr_x"))).status_code == 404


async def test_threads_have_one_page(gateway: Any, stage: "Stage") -> None:
    probe = await stage.open(await stage.agent())
    response = await gateway.http.get(f"/v1/sessions/{probe.session.id}/threads", params={"page": "x"})

    assert response.status_code == 400
