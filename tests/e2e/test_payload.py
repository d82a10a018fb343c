"""Big and odd payloads, end to end: they round-trip exactly, or are refused with an error and the session goes on."""

from base64 import b64encode
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.client import Client

from sojourn.activities import tool
from sojourn.activities.conversation import ToolResults, UserTurn
from sojourn.activities.model_step import MAX_CALLS
from sojourn.client.connection import with_store
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolResult,
    Base64Source,
    CheckpointError,
    Compaction,
    CustomTool,
    ImageBlock,
    InvalidRequestError,
    Limits,
    ModelRequestStart,
    PayloadTooLargeError,
    PermissionPolicy,
    RollOver,
    SessionBusyError,
    SessionErrorEvent,
    SessionIdle,
    Store,
    StoreMissingError,
    StoreUnavailableError,
    TextBlock,
    UserCustomToolResult,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.payload import STORED_LIMIT_BYTES, session_folder

if TYPE_CHECKING:
    from tests.conftest import PlayedModel, Probe, Stage

DONE = ScriptedTurn(text="done")
ODD = {
    "nul and controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "emoji and families": "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪",
    "right to left": "שלום \u202eexe.txt\u202c مرحبا",
    "combining": "e\u0301" + "\u0300" * 200,
    "outside the first plane": "𝔘𐍈\U0010ffff",
    "noncharacters": "\ufffe\uffff\ufeff\u2028\u2029",
    "json in json": '{"a": "\\u0000\\ud800"}',
}


def sized(mark: str, size_bytes: int) -> str:
    """Text of this size that is nowhere the same."""
    line = "".join(f"{mark}{place} " for place in range(size_bytes // (len(mark) + 6) + 1))
    return (line * 2)[:size_bytes]


async def paths(stage: "Stage", probe: "Probe") -> list[str]:
    """Everything that the store holds about a session."""
    return [path async for path in store(stage.client).paths(session_folder(probe.workflow_id))]


def store(client: Client) -> Store:
    storage = client.data_converter.external_storage
    assert storage is not None
    found: Store = storage.drivers[0].objects  # type: ignore[attr-defined]
    return found


@pytest.fixture
def bare(stage: "Stage") -> "Stage":
    """A stage on the same server, without a store."""
    stage.client = with_store(stage.client, None)
    stage.runtime = stage.another_runtime()
    return stage


# --- large -----------------------------------------------------------------------------------------------------------


async def test_a_message_and_a_tools_result_of_megabytes_reach_the_model_and_the_log(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(ScriptedTurn(calls=[ScriptedCall("fetch")]), DONE)
    heard, found = sized("m", 1_000_000), sized("t", 5_000_000)

    @tool
    async def fetch() -> str:
        return found

    probe = await stage.session(script=model, tools=[fetch], compaction=Compaction(enabled=False))
    await probe.session.send_and_wait(heard)
    await probe.idle()

    assert model.context()[0] == ("user", heard)
    assert model.context()[-1] == ("tool", found)
    assert probe.of(UserMessage)[0].content == (TextBlock(text=heard),)
    assert probe.results()["fetch"].text == found
    assert len(await paths(stage, probe)) == 2


async def test_a_huge_list_of_a_tool_is_given_as_json(stage: "Stage") -> None:
    @tool
    async def rows() -> list[dict[str, int]]:
        return [{"row": place} for place in range(100_000)]

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("rows")]), DONE, tools=[rows])
    await probe.session.send_and_wait("go")
    await probe.idle()

    assert probe.results()["rows"].text.endswith('{"row":99999}]')


async def test_images_of_megabytes_in_messages_and_results_come_back_as_they_were(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    source = Base64Source(media_type="image/png", data=b64encode(bytes(range(256)) * 12_000).decode())
    image = ImageBlock(source=source)
    model = played(ScriptedTurn(calls=[ScriptedCall("ask")]), DONE)
    ask = CustomTool(name="ask", description="Ask", input_schema={"type": "object"})
    probe = await stage.session(script=model, custom=[ask])

    await probe.session.send(UserMessage(content=(TextBlock(text="look"), image)))
    (call,) = await probe.parked()
    await stage.runtime.send_event(
        probe.session, UserCustomToolResult.model_validate({"custom_tool_use_id": call, "content": [image]})
    )
    await probe.idle(2)

    assert probe.of(UserMessage)[0].content[1] == image
    assert probe.of(UserCustomToolResult)[0].content == (image,)
    first, *_, last = model.requests[-1].messages
    assert isinstance(first, UserTurn)
    assert first.content[1] == image
    assert isinstance(last, ToolResults)
    assert last.results[0].content == (image,)


async def test_a_message_over_the_hard_limit_is_refused_and_leaves_nothing(stage: "Stage") -> None:
    probe = await stage.session()

    with pytest.raises(PayloadTooLargeError):
        await probe.session.send("x" * STORED_LIMIT_BYTES)

    assert (await probe.session.send_and_wait("short")).text == "You said: short"
    assert await paths(stage, probe) == []


async def test_a_result_over_the_hard_limit_is_an_error_that_the_model_sees(stage: "Stage") -> None:
    @tool
    async def fetch() -> str:
        return "x" * STORED_LIMIT_BYTES

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("fetch")]), DONE, tools=[fetch])
    await probe.session.send_and_wait("go")
    await probe.idle()

    assert "Ask for less at a time" in probe.results()["fetch"].text


async def test_without_a_store_too_large_an_answer_ends_the_turn_and_not_the_session(bare: "Stage") -> None:
    turns = iter([ScriptedTurn(text="x" * 2_200_000)])
    probe = await bare.session(script=lambda request: next(turns, DONE))

    await probe.session.send("go")
    await probe.idle(reason="retries_exhausted")
    await probe.session.send("again")
    await probe.idle(2)

    (error,) = probe.of(SessionErrorEvent)
    assert "the limit is" in error.error.message
    assert len(probe.of(ModelRequestStart)) == 2


async def test_without_a_store_a_large_result_is_an_error_and_a_large_message_is_refused(bare: "Stage") -> None:
    @tool
    async def fetch() -> str:
        return "x" * 2_200_000

    probe = await bare.session(ScriptedTurn(calls=[ScriptedCall("fetch")]), DONE, tools=[fetch])

    with pytest.raises(PayloadTooLargeError, match="sojourn setup --store"):
        await probe.session.send("x" * 2_200_000)
    await probe.session.send_and_wait("go")
    await probe.idle()

    assert "the limit is" in probe.results()["fetch"].text


async def test_an_agent_with_large_schemas_is_kept_and_its_sessions_run(stage: "Stage") -> None:
    tools = [
        CustomTool(name=f"tool_{place}", description=sized("d", 12_000), input_schema={"type": "object"})
        for place in range(256)
    ]
    await stage.work([DONE])
    agent = await stage.agent(*tools)
    probe = await stage.open(agent, roll_over=RollOver(max_events=20))
    for _ in range(3):
        await probe.session.send_and_wait("go")

    assert await probe.runs() > 1
    assert (await stage.runtime.get_agent(agent)).definition.tools[255] == tools[255]
    folder = session_folder(f"{stage.owner.workspace}/{agent.id}")
    assert folder.startswith("agents/")
    assert len([path async for path in store(stage.client).paths(folder)]) == 1
    assert await paths(stage, probe)


async def test_a_schema_too_deep_to_be_read_again_is_refused(stage: "Stage") -> None:
    schema: dict[str, Any] = {}
    for _ in range(230):
        schema = {"items": schema}

    with pytest.raises(InvalidRequestError, match="recursion"):
        await stage.agent(CustomTool(name="deep", description="Deep", input_schema=schema))


# --- odd -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
async def test_odd_text_round_trips_through_messages_answers_tools_and_their_arguments(
    stage: "Stage", played: "type[PlayedModel]", text: str
) -> None:
    text = f"<{text}>"
    seen: list[str] = []

    @tool
    async def repeat(words: str) -> str:
        seen.append(words)
        return words

    model = played(ScriptedTurn(text=text, calls=[ScriptedCall("repeat", {"words": text})]), ScriptedTurn(text=text))
    probe = await stage.session(script=model, tools=[repeat])
    await probe.session.send_and_wait(text)
    await probe.idle()

    assert seen == [text]
    assert probe.of(UserMessage)[0].content == (TextBlock(text=text),)
    assert probe.texts() == [text, text]
    assert probe.results()["repeat"].text == text
    assert [words for role, words in model.context() if role in ("user", "tool")] == [text, text]


async def test_half_an_emoji_is_refused_from_a_client_and_mended_from_a_model(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="half \ud83d and whole \ud83d\ude00"))

    with pytest.raises(InvalidRequestError, match="valid Unicode"):
        await probe.session.send("half \ud83d")
    await probe.session.send_and_wait("go")
    await probe.idle()

    assert probe.texts() == ["half \ufffd and whole 😀"]


async def test_arguments_that_no_json_holds_end_the_turn_and_not_the_session(stage: "Stage") -> None:
    deep: Any = {}
    for _ in range(230):
        deep = {"a": deep}
    endless: Any = {}
    for _ in range(600):
        endless = {"a": endless}
    odd = [{"a": deep}, {"a": endless}, {"a": "\ud800"}]

    @tool
    async def take(a: Any = None) -> str:
        return "taken"

    turns = [ScriptedTurn(calls=[ScriptedCall("take", each)]) for each in odd]
    asked = iter(turns)
    probe = await stage.session(script=lambda request: next(asked, DONE), tools=[take])
    for place in range(len(odd)):
        await probe.session.send("go")
        await probe.idle(place + 1, "retries_exhausted")
    await probe.session.send_and_wait("go")
    await probe.idle(len(odd) + 1, "end_turn")

    assert all("unusable" in error.error.message for error in probe.of(SessionErrorEvent))


async def test_numbers_that_json_does_not_know_become_null(stage: "Stage") -> None:
    taken: list[Any] = []

    @tool
    async def take(value: float | None, big: int) -> list[float]:
        taken.extend((value, big))
        return [float("nan"), float("inf")]

    call = ScriptedCall("take", {"value": float("nan"), "big": 10**30})
    probe = await stage.session(ScriptedTurn(calls=[call]), DONE, tools=[take])
    await probe.session.send_and_wait("go")
    await probe.idle()

    assert taken == [None, 10**30]
    assert probe.results()["take"].outcome == "ok"


async def test_bytes_that_are_no_text_are_an_error_result(stage: "Stage") -> None:
    @tool
    async def read() -> bytes:
        return b"\xff\xfe\x00caf\xe9"

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("read")]), DONE, tools=[read])
    await probe.session.send_and_wait("go")
    await probe.idle()

    assert "cannot be written as JSON" in probe.results()["read"].text


# --- many ------------------------------------------------------------------------------------------------------------


async def test_three_hundred_calls_of_one_step_all_run(stage: "Stage", played: "type[PlayedModel]") -> None:
    @tool
    async def count(place: int) -> int:
        return place

    calls = [ScriptedCall("count", {"place": place}) for place in range(300)]
    model = played(ScriptedTurn(calls=calls), DONE)
    probe = await stage.session(script=model, tools=[count])
    await probe.session.send_and_wait("go", timeout=timedelta(seconds=60))
    await probe.idle()

    results = [text for role, text in model.context() if role == "tool"]
    assert results == [str(place) for place in range(300)]


async def test_three_hundred_calls_wait_for_approval_and_run_in_order_of_the_answers(stage: "Stage") -> None:
    @tool
    async def count(place: int) -> int:
        return place

    calls = [ScriptedCall("count", {"place": place}) for place in range(300)]
    policy = PermissionPolicy(default="ask")
    probe = await stage.session(ScriptedTurn(calls=calls), DONE, tools=[count], policy=policy)
    await probe.session.send("go")
    waiting = await probe.parked()
    assert len(waiting) == 300

    answers = [
        UserToolConfirmation.model_validate({"tool_use_id": id, "result": "deny" if place % 3 else "allow"})
        for place, id in enumerate(waiting)
    ]
    await stage.runtime.send_event(probe.session, *answers[:299])
    assert await probe.parked(2) == waiting[299:]
    await stage.runtime.send_event(probe.session, answers[299])
    await probe.saw(SessionIdle, where=lambda idle: idle.stop_reason.type == "end_turn")

    outcomes = {str(result.tool_use_id): result.outcome for result in probe.of(AgentToolResult)}
    assert [outcomes[id] for id in waiting] == ["denied" if place % 3 else "ok" for place in range(300)]


async def test_a_model_that_asks_for_thousands_of_calls_is_told_off(stage: "Stage") -> None:
    @tool
    async def count() -> None:
        raise AssertionError("must not run")

    calls = [ScriptedCall("count") for _ in range(MAX_CALLS + 1)]
    asked = iter([ScriptedTurn(calls=calls)])
    probe = await stage.session(script=lambda request: next(asked, DONE), tools=[count])
    await probe.session.send("go")
    await probe.idle(reason="retries_exhausted")
    await probe.session.send_and_wait("go")
    await probe.idle(2)

    assert "1,001 tool calls at once" in probe.of(SessionErrorEvent)[0].error.message


async def test_messages_that_pile_up_while_paused_keep_their_order_from_run_to_run(stage: "Stage") -> None:
    probe = await stage.session(roll_over=RollOver(max_events=100))
    await probe.session.send_and_wait("first")
    await probe.session.pause()
    texts = [f"message {place}" for place in range(1500)]

    for text in texts[:100]:
        await probe.session.send(text)
    for start in range(100, 1500, 100):
        await stage.runtime.send_event(probe.session, *map(UserMessage.text, texts[start : start + 100]))
    await probe.saw(UserMessage, 1501)
    await probe.caught_up()
    assert await probe.runs() > 1
    await probe.session.resume()
    await probe.idle(20)
    await probe.session.archive()
    await probe.ended()

    logged = [block.text for event in probe.of(UserMessage) for block in event.content if isinstance(block, TextBlock)]
    assert logged == ["first", *texts]
    said = [text.removeprefix("You said: ") for text in probe.texts()]
    assert said == logged[: len(said)]


# --- the store is missing, empty or away -----------------------------------------------------------------------------


class ShakyStore(Store):
    """A store in memory that fails the next operations on blobs."""

    failing_puts = 0
    failing_gets = 0

    async def put(self, path: str, data: bytes) -> None:
        if "/blobs/" in path and self.failing_puts:
            self.failing_puts -= 1
            raise StoreUnavailableError(self.url, reason="shaken")
        await super().put(path, data)

    async def get(self, path: str) -> bytes | None:
        if "/blobs/" in path and self.failing_gets:
            self.failing_gets -= 1
            raise StoreUnavailableError(self.url, reason="shaken")
        return await super().get(path)


@pytest.fixture
def shaky(stage: "Stage") -> ShakyStore:
    """The store of the stage's clients and workers."""
    found = ShakyStore.open("memory://")
    assert isinstance(found, ShakyStore)
    stage.client = with_store(stage.client, found)
    stage.runtime = stage.another_runtime()
    return found


async def test_a_reader_without_the_store_is_told_so(stage: "Stage") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait(sized("m", 300_000))
    await probe.idle()
    stage.client = with_store(stage.client, None)
    elsewhere = stage.another_runtime()

    with pytest.raises(StoreMissingError, match="SOJOURN_STORE_URL"):
        await elsewhere.list_events(probe.session.id)
    with pytest.raises(StoreMissingError):
        async for _ in elsewhere.stream_events(probe.session.id, from_seq=0):
            pass


async def test_a_log_whose_payload_was_deleted_cannot_be_read(stage: "Stage", shaky: ShakyStore) -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait(sized("m", 300_000))
    await probe.idle()
    probe.forget()
    await shaky.delete_folder(session_folder(probe.workflow_id))

    with pytest.raises(CheckpointError, match="is not in the store"):
        await stage.another_runtime().list_events(probe.session)


async def test_a_message_that_the_store_refuses_is_not_sent_and_can_be_sent_again(
    stage: "Stage", shaky: ShakyStore
) -> None:
    probe = await stage.session(DONE)
    shaky.failing_puts = 1

    with pytest.raises(StoreUnavailableError, match="shaken"):
        await probe.session.send(sized("m", 300_000))
    await probe.session.send_and_wait(sized("m", 300_000))
    await probe.idle()

    assert len(probe.of(UserMessage)) == 1


async def test_a_tool_runs_once_while_its_result_waits_for_the_store(stage: "Stage", shaky: ShakyStore) -> None:
    runs: list[int] = []

    @tool
    async def fetch() -> str:
        runs.append(1)
        shaky.failing_puts = 2
        return sized("t", 300_000)

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("fetch")]), DONE, tools=[fetch])
    await probe.session.send_and_wait("go")
    await probe.idle()

    assert probe.results()["fetch"].text == sized("t", 300_000)
    assert runs == [1]


async def test_an_answer_that_the_store_refuses_is_asked_for_again_visibly(stage: "Stage", shaky: ShakyStore) -> None:
    shaky.failing_puts = 1
    limits = Limits(retry_interval=timedelta(milliseconds=10))
    probe = await stage.session(ScriptedTurn(text=sized("a", 300_000)), limits=limits)
    await probe.session.send("go")
    await probe.idle(reason="end_turn")

    assert probe.texts() == [sized("a", 300_000)]
    assert "shaken" in probe.of(SessionErrorEvent)[0].error.message


async def test_a_workflow_that_cannot_read_a_message_goes_on_when_the_store_is_back(
    stage: "Stage", shaky: ShakyStore
) -> None:
    probe = await stage.session(DONE, DONE)
    await probe.session.send_and_wait("go")
    await stage.stop(stage.workers[0])
    await probe.session.send(sized("m", 300_000))
    await probe.saw(UserMessage, 2)
    shaky.failing_gets = 1
    await stage.work([DONE])
    await probe.idle(2, "end_turn")

    assert shaky.failing_gets == 0


async def test_without_a_store_as_many_messages_as_fit_into_a_step_are_taken(bare: "Stage") -> None:
    """History holds them all until the step ends; the server would end the session for good at 50 MB."""
    probe = await bare.session(ScriptedTurn(text="a", stall=True), DONE)
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)

    async def flood() -> None:
        for _ in range(60):
            await probe.session.send("x" * 1_000_000)

    with pytest.raises(SessionBusyError, match="in one step"):
        await flood()
    await probe.session.interrupt()
    await probe.idle()
    await probe.session.archive()
    await probe.ended()

    assert 25 < len(probe.of(UserMessage)) < 40


async def test_ten_thousand_messages_may_wait_and_more_are_refused(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="a", stall=True))
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)
    batch = [UserMessage.text("x") for _ in range(1000)]

    async def flood() -> None:
        for number in range(1, 20):
            await stage.runtime.send_event(probe.session, *batch)
            await probe.saw(UserMessage, number * 1000 + 1)
            # A query is answered when the workflow has taken up all that was sent before.
            await probe.count()

    with pytest.raises(SessionBusyError, match="messages waiting"):
        await flood()
    await probe.session.archive()
    await probe.ended()

    assert len(probe.of(UserMessage)) == 10_001
