"""The same session where the worker remembers nothing between its tasks: every task is a replay."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import CustomTool, Limits, PermissionPolicy, RollOver, SessionStatus
from sojourn.types.session import UpdateSessionInput
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Stage

STOP = timedelta(0)
OPTIONS = {
    "no-cache": WorkerOptions(max_cached_sessions=0, graceful_shutdown=STOP),
    "cache-of-one": WorkerOptions(max_cached_sessions=1, graceful_shutdown=STOP),
    "sandboxed": WorkerOptions(sandboxed=True, graceful_shutdown=STOP),
    "sandboxed-no-cache": WorkerOptions(sandboxed=True, max_cached_sessions=0, graceful_shutdown=STOP),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
async def test_a_representative_session(stage: "Stage", options: WorkerOptions) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    def pay(amount: int) -> str:
        return f"paid {amount}"

    look = CustomTool(name="look", description="Look.", input_schema={"type": "object"})
    turns = [
        ScriptedTurn(calls=[ScriptedCall("add", {"a": 1, "b": 2}), ScriptedCall("add", {"a": 3, "b": 4})]),
        ScriptedTurn(text="sums"),
        ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 1}), ScriptedCall("look"), ScriptedCall("nothing")]),
        ScriptedTurn(text="paid", failure=ScriptedFailure()),
        ScriptedTurn(text="half a", stall=True),
        ScriptedTurn(text="after the pause"),
    ]
    probe = await stage.session(
        *turns,
        tools=[add, pay],
        custom=[look],
        policy=PermissionPolicy(tools={"pay": "ask"}),
        limits=Limits(retry_interval=timedelta(milliseconds=10)),
        roll_over=RollOver(max_events=45),
        options=options,
    )
    session = probe.session

    await session.send("add")
    await probe.idle(1, "end_turn")
    await session.send("pay")
    pay_call, look_call = await probe.parked()
    await session.confirm(pay_call, allow=True)
    await probe.parked(2)
    await session.answer(look_call, "seen")
    await probe.idle(4, "end_turn")
    await session.update(UpdateSessionInput(title="t"))
    await session.send("talk")
    await probe.written("half a")
    await session.interrupt()
    await probe.idle(5, "end_turn")
    await session.pause()
    await session.send("wait")
    await session.resume()
    await probe.idle(6, "end_turn")
    await session.archive()
    await probe.ended()

    assert probe.texts() == ["sums", "paid", "half a", "after the pause"]
    assert await session.status() is SessionStatus.ARCHIVED
    assert await probe.runs() > 1


async def test_two_sessions_that_push_each_other_out_of_the_cache(stage: "Stage") -> None:
    await stage.work(options=OPTIONS["cache-of-one"])
    agent = await stage.agent(model="scripted:echo")
    probes = [await stage.open(agent) for _ in range(3)]

    for place in range(3):
        for probe in probes:
            await probe.session.send_and_wait(f"{place}")

    for probe in probes:
        await probe.idle(3)
        assert probe.texts() == ["You said: 0", "You said: 1", "You said: 2"]
