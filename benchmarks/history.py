"""One long conversation: what a turn costs in history and time after 10, 100 and 1,000 turns.

The raw side hands the whole transcript to every model call, so its history grows with the square of the conversation.
"""

from dataclasses import dataclass
from statistics import median

from report import Row, Table, milliseconds
from setting import Setting, pair
from talk import Talk
from temporalio.client import Client
from temporalio.service import RPCError


@dataclass(frozen=True)
class Mark:
    """Where a conversation's history stands after a turn, all its runs together."""

    events: int
    size_bytes: int


class Chain:
    """Adds up the histories of the runs of one workflow."""

    def __init__(self, client: Client, workflow_id: str) -> None:
        self._client = client
        self._id = workflow_id
        self._runs: dict[str, Mark] = {}
        self._latest = ""

    @property
    def runs(self) -> int:
        """Runs so far."""
        return len(self._runs)

    async def mark(self) -> Mark:
        """The sums now."""
        latest = await self._measure(None)
        if self._latest and latest != self._latest:
            # What it grew by between our last look and its end.
            await self._measure(self._latest)
        self._latest = latest
        runs = self._runs.values()
        return Mark(sum(each.events for each in runs), sum(each.size_bytes for each in runs))

    async def _measure(self, run_id: str | None) -> str:
        described = await self._client.get_workflow_handle(self._id, run_id=run_id).describe()
        info = described.raw_description.workflow_execution_info
        self._runs[described.run_id] = Mark(info.history_length, info.history_size_bytes)
        return described.run_id


@dataclass(frozen=True)
class Record:
    """A conversation turn by turn; entry 0 is before the first."""

    marks: list[Mark]
    seconds: list[float]
    runs: int
    ended: str = ""

    def window(self, first: int, last: int) -> tuple[float, float, float] | None:
        """Events, bytes and median seconds a turn over these turns, both included."""
        if last >= len(self.marks):
            return None
        turns = last - first + 1
        before, after = self.marks[first - 1], self.marks[last]
        return (
            (after.events - before.events) / turns,
            (after.size_bytes - before.size_bytes) / turns,
            median(self.seconds[first : last + 1]),
        )


async def run(setting: Setting) -> Table:
    long = setting.pick(1000, 200, 12)
    async with pair(setting.address) as both:
        client = both.ours.runtime.client
        ours = await _converse(both.ours.talk(), client, long, setting, "sojourn")
        raw = await _converse(both.raw.talk(), client, min(long, 300), setting, "raw")
    windows = [(1, 10), (11, 100), (long - 99, long)] if long > 100 else [(1, 10)]
    base = ours.window(*windows[min(1, len(windows) - 1)])
    rows = [row for first, last in windows for row in _rows(first, last, ours, raw, base)]
    rows.append(_total(ours, raw))
    return Table(
        "history",
        "2. History of one conversation, a turn of 2 model steps + 1 tool call, about 1.5 KB of text a turn",
        rows,
        (
            f"sojourn: all {ours.runs} runs counted, continue-as-new included. The first ten turns carry the start of"
            " the session; constancy is measured against turns 11-100.",
            "raw hands the transcript to each model call; its bytes are those of the last turn of the window.",
        ),
    )


async def _converse(talk: Talk, client: Client, turns: int, setting: Setting, name: str) -> Record:
    marks, seconds = [Mark(0, 0)], [0.0]
    seconds.append(await talk.start())
    chain = Chain(client, talk.workflow_id)
    marks.append(await chain.mark())
    ended = ""
    for number in range(2, turns + 1):
        if number % 10 == 0:
            setting.say(f"{name}: turn {number} of {turns}")
        try:
            seconds.append(await talk.turn())
        except (RPCError, StopAsyncIteration) as error:
            # The watched run was closed: Temporal terminates a workflow whose history passes 50 MB.
            ended = str(error) or "its history was over the limit"
            break
        marks.append(await chain.mark())
    await talk.close()
    return Record(marks, seconds, chain.runs, ended)


def _rows(first: int, last: int, ours: Record, raw: Record, base: tuple[float, float, float] | None) -> list[Row]:
    mine, its = ours.window(first, last), raw.window(first, last)
    last_raw = raw.window(last, last)
    assert mine is not None
    assert base is not None
    name = f"turns {first}-{last}"
    drift = mine[1] / base[1]
    constant = first > 1
    return [
        Row(
            f"{name}: events a turn",
            f"{mine[0]:.1f}",
            f"{its[0]:.1f}" if its else "-",
            f"{mine[0] / its[0]:.2f}" if its else "",
            "≤ 26",
            mine[0] <= 26,
            {"ours": mine[0]},
        ),
        Row(
            f"{name}: bytes a turn",
            f"{mine[1]:,.0f}" + (f" ({drift - 1:+.0%})" if constant else ""),
            f"{last_raw[1]:,.0f}" if last_raw else "-",
            f"{mine[1] / last_raw[1]:.2f}" if last_raw else "",
            "within 10 %" if constant else "",
            abs(drift - 1) <= 0.1 if constant else None,
            {"ours": mine[1], "raw_last_turn": last_raw[1] if last_raw else 0.0},
        ),
        Row(
            f"{name}: message → reply, p50",
            milliseconds(mine[2]),
            milliseconds(its[2]) if its else "-",
            f"{mine[2] / its[2]:.2f}" if its else "",
            figures={"ours": mine[2]},
        ),
    ]


def _total(ours: Record, raw: Record) -> Row:
    def text(record: Record) -> str:
        end = f"; ended by the server: {record.ended[:60]}" if record.ended else ""
        return f"{record.marks[-1].size_bytes / 1e6:.1f} MB after {len(record.marks) - 1} turns{end}"

    return Row("whole history", text(ours), text(raw), figures={"ours_bytes": float(ours.marks[-1].size_bytes)})
