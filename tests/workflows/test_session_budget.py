"""Budgets: looked at before each model request, and nothing is lost at them."""

from typing import Any

import pytest

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    Budget,
    Compaction,
    ContextCompacted,
    CustomTool,
    InvalidRequestError,
    ModelRef,
    ModelRequestStart,
    RollOver,
    SessionIdle,
    SessionStatus,
    SessionUpdated,
    SessionUsage,
    UpdateSessionInput,
    UserMessage,
)
from sojourn.types.name import USER_EVENTS_SIGNAL
from sojourn.types.record import UserEvents

CENT = 1_000_000
LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})
CALL = ScriptedTurn(calls=[ScriptedCall("add")], cost_microcents=CENT)
DONE = ScriptedTurn(text="done", cost_microcents=CENT)


def add() -> str:
    return "added"


def cents(number: int) -> Budget:
    return Budget(max_list_cost_cents=number)


async def raised(probe: Any, number: int) -> None:
    await probe.session.update(UpdateSessionInput(budget=cents(number)))


async def broke(stage: Any, **options: Any) -> Any:
    """A session that has spent its one cent on the first step of its turn."""
    probe = await stage.session(CALL, DONE, tools=[add], budget=cents(1), **options)
    await probe.session.send("add")
    await probe.idle(1, "budget_reached")
    return probe


async def slipped(stage: Any, probe: Any, text: str) -> None:
    """Send past the client's check, as one does who looked a moment earlier."""
    handle = stage.client.get_workflow_handle(probe.workflow_id)
    await handle.signal(USER_EVENTS_SIGNAL, UserEvents(sent=(UserMessage.text(text),)))


async def test_the_turn_stops_before_the_request_that_has_no_money(stage: Any) -> None:
    probe = await broke(stage)
    info = await probe.session.info()

    assert len(probe.of(ModelRequestStart)) == 1
    assert set(probe.results()) == {"add"}
    assert (info.status, info.stop_reason) == (SessionStatus.IDLE, "budget_reached")
    assert info.account.cost_microcents == CENT
    assert info.account.is_exhausted


async def test_usage_tells_cost_and_budget_right_before_the_idle(stage: Any) -> None:
    probe = await broke(stage)
    (usage,) = probe.of(SessionUsage)
    (idle,) = probe.of(SessionIdle)

    assert usage.seq == idle.seq - 1
    assert usage.cost_microcents == CENT
    assert usage.budget == cents(1)


async def test_a_raised_budget_lets_the_turn_go_on_by_itself(stage: Any) -> None:
    probe = await broke(stage)
    await raised(probe, 5)
    await probe.idle(2, "end_turn")

    assert probe.texts() == ["done"]
    assert probe.story()[-4:] == [
        "session.updated",
        "session.status_running",
        "agent.message",
        "session.status_idle",
    ]
    (updated,) = probe.of(SessionUpdated)
    assert updated.budget == cents(5)
    assert (await probe.session.info()).account.budget == cents(5)


async def test_a_removed_budget_lets_the_turn_go_on_and_stays_removed(stage: Any) -> None:
    probe = await broke(stage)
    await probe.session.update(UpdateSessionInput(remove_budget=True))
    await probe.idle(2, "end_turn")

    with pytest.raises(InvalidRequestError) as refused:
        await raised(probe, 100)

    assert refused.value.code == "budget_create_only"
    assert probe.of(SessionUpdated)[0].budget_removed
    assert (await probe.session.info()).account.budget is None
    assert probe.of(SessionUsage)[-1].budget is None


async def test_a_budget_that_is_spent_already_is_refused_and_leaves_no_trace(stage: Any) -> None:
    probe = await broke(stage)
    before = len(probe.log)

    with pytest.raises(InvalidRequestError, match=r"1\.00 are spent") as refused:
        await raised(probe, 1)

    assert refused.value.code == "budget_not_raised"
    assert len(await stage.runtime.list_events(probe.session)) == before


async def test_a_session_without_a_budget_gets_none(stage: Any) -> None:
    probe = await stage.session(DONE)

    with pytest.raises(InvalidRequestError) as refused:
        await raised(probe, 5)

    assert refused.value.code == "budget_create_only"


async def test_at_the_budget_only_what_settles_is_taken(stage: Any) -> None:
    probe = await broke(stage)
    other = stage.another_runtime()

    for runtime in (stage.runtime, other):
        with pytest.raises(InvalidRequestError, match="raise or remove it") as refused:
            await runtime.send_event(probe.session, UserMessage.text("more"))
        assert refused.value.code == "budget_reached"
    await probe.session.interrupt()
    await probe.idle(2, "end_turn")

    assert len(probe.of(ModelRequestStart)) == 1


async def test_an_interrupted_turn_does_not_come_back_with_the_money(stage: Any) -> None:
    probe = await broke(stage)
    await probe.session.interrupt()
    await probe.idle(2, "end_turn")
    await raised(probe, 5)
    await probe.session.send("again")
    await probe.idle(3, "end_turn")

    assert len(probe.of(ModelRequestStart)) == 2


async def test_what_slips_through_waits_and_is_not_lost(stage: Any) -> None:
    probe = await broke(stage)
    await slipped(stage, probe, "one")
    await slipped(stage, probe, "two")
    await probe.caught_up()

    assert len(probe.of(ModelRequestStart)) == 1
    await raised(probe, 50)
    await probe.idle(4, "end_turn")
    assert len(probe.of(UserMessage)) == 3
    started = [id for each in probe.of(ModelRequestStart) for id in each.consumed_event_ids]
    assert started == [each.id for each in probe.of(UserMessage)]


async def test_a_turn_that_ends_at_its_budget_has_ended(stage: Any) -> None:
    probe = await stage.session(DONE, budget=cents(1))
    await probe.session.send("hello")
    await probe.idle(1, "end_turn")
    await slipped(stage, probe, "more")
    await probe.idle(2, "budget_reached")

    assert len(probe.of(ModelRequestStart)) == 1
    await raised(probe, 2)
    await probe.idle(3, "end_turn")
    assert len(probe.of(ModelRequestStart)) == 2


async def test_what_the_client_owes_comes_before_the_money(stage: Any) -> None:
    turn = ScriptedTurn(calls=[ScriptedCall("look")], cost_microcents=CENT)
    probe = await stage.session(turn, DONE, custom=[LOOK], budget=cents(1))
    await probe.session.send("look")
    (call,) = await probe.parked()

    with pytest.raises(InvalidRequestError):
        await probe.session.send("more")
    await probe.session.answer(call, "seen")
    await probe.idle(2, "budget_reached")
    await raised(probe, 3)
    await probe.idle(3, "end_turn")
    assert probe.texts() == ["done"]


async def test_a_step_of_unknown_price_stops_the_session_until_the_budget_is_removed(stage: Any) -> None:
    turn = ScriptedTurn(calls=[ScriptedCall("add")])
    probe = await stage.session(turn, ScriptedTurn(text="done"), tools=[add], budget=cents(100))
    await probe.session.send("add")
    await probe.idle(1, "budget_reached")

    with pytest.raises(InvalidRequestError) as refused:
        await raised(probe, 1000)
    assert refused.value.code == "model_not_budgetable"
    assert probe.of(SessionUsage)[0].cost_microcents is None
    await probe.session.update(UpdateSessionInput(remove_budget=True))
    await probe.idle(2, "end_turn")


async def test_a_budget_for_a_model_without_a_price_is_refused_at_the_start(stage: Any) -> None:
    definition = AgentDefinition(name="local", model=ModelRef.of("ollama:llama3"))
    agent = await stage.runtime.create(definition)

    with pytest.raises(InvalidRequestError) as refused:
        await stage.runtime.start_session(agent, budget=cents(5))

    assert refused.value.code == "model_not_budgetable"
    known = definition.model_copy(update={"model": ModelRef.of("anthropic:claude-sonnet-4-5")})
    assert await stage.runtime.start_session(await stage.runtime.create(known), budget=cents(5))


async def test_a_run_that_gives_way_at_the_budget_keeps_everything(stage: Any) -> None:
    probe = await broke(stage, roll_over=RollOver(max_events=20))
    for number in range(12):
        await slipped(stage, probe, f"{number}")
    await probe.caught_up()
    before = await probe.runs()
    again = [idle for idle in probe.of(SessionIdle) if idle.stop_reason.type == "budget_reached"]
    info = await probe.session.info()

    assert before > 1
    assert len(again) == 1
    assert (info.stop_reason, info.account.cost_microcents) == ("budget_reached", CENT)
    await raised(probe, 1000)
    await probe.idle(14, "end_turn")
    assert len({each.id for each in probe.of(UserMessage)}) == 13


async def test_a_paused_session_does_not_go_on_when_it_gets_money(stage: Any) -> None:
    probe = await broke(stage)
    await probe.session.pause()
    await raised(probe, 5)
    await probe.caught_up()

    assert len(probe.of(ModelRequestStart)) == 1
    assert await probe.session.status() is SessionStatus.PAUSED
    await probe.session.resume()
    await probe.idle(2, "end_turn")


async def test_a_worker_that_comes_later_finds_the_session_at_its_budget(stage: Any) -> None:
    probe = await broke(stage)
    await stage.stop(stage.workers[0])
    await slipped(stage, probe, "later")
    await stage.work([CALL, DONE], tools=[add])
    await probe.caught_up()

    assert len(probe.of(ModelRequestStart)) == 1
    await raised(probe, 50)
    await probe.saw(SessionIdle, 2, where=lambda idle: idle.stop_reason.type == "end_turn")


async def test_an_archived_session_ends_at_its_budget(stage: Any) -> None:
    probe = await broke(stage)
    await probe.session.archive(only_if_idle=True)

    assert await probe.session.status() is SessionStatus.ARCHIVED


async def test_a_conversation_that_had_to_be_compacted_waits_for_money_too(stage: Any) -> None:
    long = "word " * 200
    probe = await stage.session(
        ScriptedTurn(text=f"one {long}", cost_microcents=0),
        ScriptedTurn(text=f"two {long}", cost_microcents=0),
        ScriptedTurn(text="at last", failure=ScriptedFailure("fatal", "too long", too_long=True), cost_microcents=CENT),
        summary=[ScriptedTurn(text="brief", cost_microcents=CENT)],
        compaction=Compaction(window_tokens=1000),
        budget=cents(1),
    )
    for number in (1, 2):
        await probe.session.send("hello")
        await probe.idle(number, "end_turn")
    await probe.session.send("hello")
    await probe.idle(3, "budget_reached")

    assert len(probe.of(ModelRequestStart)) == 4
    assert len(probe.of(ContextCompacted)) == 1
    await raised(probe, 3)
    await probe.idle(4, "end_turn")
    assert probe.texts()[-1] == "at last"
