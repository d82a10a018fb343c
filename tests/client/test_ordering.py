"""Lists of sessions by their creation, in both orders and both directions."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from sojourn.client import Page, SessionFilter
from sojourn.types import InvalidRequestError, SessionSnapshot

if TYPE_CHECKING:
    from tests.conftest import Eventually, Stage

    from sojourn.client.ordering import Order


def ids(page: Page[SessionSnapshot]) -> list[str]:
    return [each.info.id for each in page.data]


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_pages_lead_through_all_sessions_and_back(
    stage: "Stage", eventually: "Eventually", order: "Order"
) -> None:
    await stage.work()
    agent = await stage.agent(model="scripted:echo")
    made = [await stage.runtime.start_session(agent) for _ in range(5)]
    # An ended session keeps its place, though the server lists those that are open first.
    await made[3].archive()
    wanted = SessionFilter(workspace=stage.owner.workspace)
    everything = [each.id for each in made][:: -1 if order == "desc" else 1]

    async def listed() -> bool:
        return ids(await stage.runtime.list_session_snapshots(wanted, order=order)) == everything

    await eventually(listed, "all sessions in their order")
    first = await stage.runtime.list_session_snapshots(wanted, order=order, limit=2)
    second = await stage.runtime.list_session_snapshots(wanted, order=order, limit=2, page=first.next_page)
    third = await stage.runtime.list_session_snapshots(wanted, order=order, limit=2, page=second.next_page)
    back = await stage.runtime.list_session_snapshots(wanted, order=order, limit=2, page=third.prev_page)
    start = await stage.runtime.list_session_snapshots(wanted, order=order, limit=2, page=back.prev_page)

    assert [*ids(first), *ids(second), *ids(third)] == everything
    assert (ids(back), ids(start)) == (ids(second), ids(first))
    assert (first.prev_page, third.next_page, start.prev_page) == (None, None, None)
    other: Order = "asc" if order == "desc" else "desc"
    with pytest.raises(InvalidRequestError, match="in order"):
        await stage.runtime.list_session_snapshots(wanted, order=other, page=first.next_page)


async def test_a_window_is_narrowed_until_one_call_lists_it(
    stage: "Stage", eventually: "Eventually", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn.client.ordering._WINDOW", 5)
    agent = await stage.agent(model="scripted:echo")
    made = [(await stage.runtime.start_session(agent)).id for _ in range(14)]
    wanted = SessionFilter(workspace=stage.owner.workspace)

    async def read(order: "Order") -> list[str]:
        found: list[str] = []
        page: str | None = None
        while True:
            listed = await stage.runtime.list_session_snapshots(wanted, order=order, limit=3, page=page)
            found += ids(listed)
            if (page := listed.next_page) is None:
                return found

    async def all_listed() -> bool:
        return len((await stage.runtime.list_sessions(limit=100)).data) == 14

    await eventually(all_listed, "14 sessions in the lists")
    assert await read("desc") == made[::-1]
    assert await read("asc") == made


@pytest.mark.parametrize("page", ["nothing", "%%%", "archived:", "ZGVzYyBuZXh0IDEgYQ"])
async def test_what_is_no_cursor_is_refused(stage: "Stage", page: str) -> None:
    with pytest.raises(InvalidRequestError, match="cursor"):
        await stage.runtime.list_session_snapshots(SessionFilter(workspace="w"), page=page)


def test_a_cursor_survives_any_time() -> None:
    from sojourn.client.ordering import _Cursor

    for at in (datetime(2020, 1, 1, tzinfo=UTC), datetime(2039, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)):
        cursor = _Cursor("asc", "prev", "index/w/a b.json", at, "sesn_1")
        assert _Cursor.of(str(cursor), "asc") == cursor
