import asyncio
import base64
import json
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue

from sojourn.activities.adapter import PydanticAiClient
from sojourn.activities.conversation import AssistantTurn, Message, SystemTurn, ToolResult, ToolResults, UserTurn
from sojourn.activities.model import (
    Answer,
    AnswerPart,
    AnswerText,
    AnswerThinking,
    AnswerToolCall,
    Delta,
    ModelCallError,
    ModelRequest,
    ToolSpec,
)
from sojourn.testing.protocol import Reply, Text, Thinking, ToolCall
from sojourn.testing.provider import Broken, FakeProvider, Fault, Paced, Received
from sojourn.types.content import Base64Source, ImageBlock, TextBlock
from sojourn.types.failure import ModelFailure
from sojourn.types.id import EventId
from sojourn.types.model import ModelRef, ModelSettings, Provider
from sojourn.types.record import AssistantPart, TextPart, ThinkingPart, ToolCallPart
from sojourn.types.usage import Usage

SECRET = "sk-test-0123456789abcdef"
PROVIDERS: tuple[Provider, ...] = ("anthropic", "google", "openai", "openai-compatible")
# Names that the provider's models really have, where pydantic-ai decides by the name what a model can do.
MODELS: dict[Provider, str] = {"anthropic": "claude-sonnet-4-6", "google": "gemini-2.5-pro", "openai": "gpt-5"}

HELLO = Reply([Text("Hello wide world")])
ADD = ToolSpec(
    "add",
    "Adds two numbers.",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
)
PIXEL = base64.b64encode(b"\x89PNG pixel").decode()

# What each provider must get after the first message, in its own protocol.
ROUND_TRIP = Path(__file__).parent / "golden" / "tool_round_trip.json"

every_provider = pytest.mark.parametrize("provider", PROVIDERS)


def user(text: str) -> UserTurn:
    return UserTurn((TextBlock(text=text),))


def request_to(
    ref: ModelRef, *messages: Message, system: str | None = None, tools: Sequence[ToolSpec] = ()
) -> ModelRequest:
    return ModelRequest(ref, system, messages or (user("hi"),), tools, step=0)


async def chunks_of(client: PydanticAiClient, request: ModelRequest) -> list[Delta | Answer]:
    return [chunk async for chunk in client.stream(request)]


async def answer_of(client: PydanticAiClient, request: ModelRequest) -> Answer:
    last = (await chunks_of(client, request))[-1]
    assert isinstance(last, Answer)
    return last


async def failure_of(client: PydanticAiClient, request: ModelRequest) -> ModelFailure:
    with pytest.raises(ModelCallError) as error:
        await chunks_of(client, request)
    assert error.value.__cause__ is None
    return error.value.failure


def recorded(answer: Answer) -> AssistantTurn:
    """The answer as it comes back from the log."""
    return AssistantTurn(tuple(_recorded(EventId(f"sevt_{n}"), part) for n, part in enumerate(answer.parts)))


def _recorded(own_id: EventId, part: AnswerPart) -> AssistantPart:
    match part:
        case AnswerText():
            kept: AssistantPart = TextPart(id=own_id, text=part.text, state=part.state)
        case AnswerThinking():
            kept = ThinkingPart(id=own_id, text=part.text, signature=part.signature, state=part.state)
        case AnswerToolCall():
            kept = ToolCallPart(
                id=own_id,
                call_id=part.call_id,
                name=part.name,
                input=part.input,
                kind="function",
                permission="allow",
                state=part.state,
            )
    # Through JSON, as it goes through history.
    return type(kept).model_validate_json(kept.model_dump_json())


def found(body: object, key: str) -> list[JsonValue]:
    """Every value under a key, anywhere in a body."""
    match body:
        case dict():
            own = [body[key]] if key in body else []
            return own + [hit for value in body.values() for hit in found(value, key)]
        case list():
            return [hit for value in body for hit in found(value, key)]
        case _:
            return []


@every_provider
async def test_text_is_streamed_and_then_finished(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(HELLO)

    *deltas, answer = await chunks_of(client, request_to(server.ref(provider)))

    assert [chunk.text for chunk in deltas if isinstance(chunk, Delta)] == ["Hello ", "wide ", "world"]
    assert isinstance(answer, Answer)
    assert [part.text for part in answer.parts if isinstance(part, AnswerText)] == ["Hello wide world"]
    assert answer.finish_reason == "stop"
    assert answer.model == "fake-model"


async def test_one_script_gives_every_adapter_the_same_chunks(client: PydanticAiClient, server: FakeProvider) -> None:
    script = Reply([Thinking("so be it", "c2ln"), Text("  "), Text("I add"), ToolCall("add", '{"a": 1, "b": 2}')])
    told = []
    for provider in PROVIDERS:
        server.add(script)
        chunks = await chunks_of(client, request_to(server.ref(provider), tools=[ADD]))
        told.append([(chunk.part, chunk.kind) if isinstance(chunk, Delta) else len(chunk.parts) for chunk in chunks])

    assert told == [[(0, "thinking")] * 3 + [(1, "text")] * 2 + [3]] * len(PROVIDERS)


@every_provider
async def test_deltas_are_the_text_of_the_part_they_name(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Reply([Text("\n\n"), Thinking("hm hm", "c2ln"), Text("one two"), ToolCall("add")]))

    *deltas, answer = await chunks_of(client, request_to(server.ref(provider), tools=[ADD]))

    assert isinstance(answer, Answer)
    for number, part in enumerate(answer.parts):
        told = "".join(chunk.text for chunk in deltas if isinstance(chunk, Delta) and chunk.part == number)
        assert told == ("" if isinstance(part, AnswerToolCall) else part.text)


@every_provider
async def test_a_tool_call_and_its_result_go_back(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Reply([Text("I add."), ToolCall("add", '{"a": 1, "b": 2}', "call_7", "c2ln")]), HELLO)
    ref = server.ref(provider, model=MODELS.get(provider, "fake-model"))
    first = await answer_of(client, request_to(ref, user("1+2?"), tools=[ADD]))
    results = ToolResults((ToolResult("call_7", "add", (TextBlock(text="3"),), is_error=False),))

    await answer_of(client, request_to(ref, user("1+2?"), recorded(first), results, user("so?"), tools=[ADD]))

    assert first.finish_reason == "tool_calls"
    assert [part.input for part in first.parts if isinstance(part, AnswerToolCall)] == [{"a": 1, "b": 2}]
    assert tail_of(server.requests[1]) == json.loads(ROUND_TRIP.read_text())[provider]


def tail_of(received: Received) -> list[JsonValue]:
    key = {"google": "contents", "responses": "input"}.get(received.protocol, "messages")
    messages = received.body[key]
    assert isinstance(messages, list)
    return messages[1:]


@every_provider
async def test_a_failed_tool_is_told_as_an_error(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(HELLO)
    call = Answer([AnswerToolCall("call_7", "add", {})], Usage(), "tool_calls", "m")
    results = ToolResults((ToolResult("call_7", "add", (TextBlock(text="no disk"),), is_error=True),))

    await answer_of(client, request_to(server.ref(provider), user("go"), recorded(call), results, tools=[ADD]))

    body = server.requests[0].body
    match provider:
        case "anthropic":
            assert found(body, "is_error") == [True]
            assert found(body, "tool_use_id") == ["call_7"]
        case "google":
            assert found(body, "response") == [{"error": "no disk"}]
        case "openai":
            assert found(body, "output") == ['{"error":"no disk"}']
        case _:
            assert '{"error":"no disk"}' in found(body, "content")


async def test_the_same_tools_reach_every_provider(client: PydanticAiClient, server: FakeProvider) -> None:
    for provider in PROVIDERS:
        server.add(HELLO)
        await answer_of(client, request_to(server.ref(provider), tools=[ADD]))

    keys = {"anthropic": "input_schema", "google": "parameters_json_schema"}
    schemas = [
        found(got.body["tools"], keys.get(provider, "parameters"))
        for provider, got in zip(PROVIDERS, server.requests, strict=True)
    ]
    assert all(schema == [ADD.input_schema] for schema in schemas)


async def test_a_thinking_signature_goes_back_to_anthropic(client: PydanticAiClient, server: FakeProvider) -> None:
    server.add(Reply([Thinking("I ponder", "c2lnbmF0dXJl"), Text("Yes")]), HELLO)
    ref = server.ref("anthropic")
    first = await answer_of(client, request_to(ref))

    await answer_of(client, request_to(ref, user("hi"), recorded(first), user("and?")))

    assert first.parts[0] == AnswerThinking("I ponder", "c2lnbmF0dXJl", {"provider": "anthropic"})
    assert tail_of(server.requests[1])[0] == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I ponder", "signature": "c2lnbmF0dXJl"},
            {"type": "text", "text": "Yes"},
        ],
    }


async def test_encrypted_reasoning_goes_back_to_openai_and_nothing_is_stored(
    client: PydanticAiClient, server: FakeProvider
) -> None:
    server.add(Reply([Thinking("I ponder", "ZW5jcnlwdGVk"), Text("Yes")]), HELLO)
    ref = server.ref("openai", model="gpt-5")
    first = await answer_of(client, request_to(ref))

    await answer_of(client, request_to(ref, user("hi"), recorded(first), user("and?")))

    assert server.requests[0].body["store"] is False
    assert server.requests[0].body["include"] == ["reasoning.encrypted_content"]
    assert tail_of(server.requests[1])[0] == {
        "id": "rs_0",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "I ponder"}],
        "encrypted_content": "ZW5jcnlwdGVk",
    }


@every_provider
async def test_thinking_of_another_provider_or_cut_off_is_left_out(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(HELLO)
    parts = (
        ThinkingPart(id=EventId("sevt_1"), text="a secret", signature="c2ln", state={"provider": "elsewhere"}),
        ThinkingPart(id=EventId("sevt_2"), text="a secret cut off"),
        TextPart(id=EventId("sevt_3"), text="Yes", state={"provider": "elsewhere", "id": "msg_9"}),
    )

    await answer_of(client, request_to(server.ref(provider), user("hi"), AssistantTurn(parts), user("and?")))

    body = server.requests[0].body
    assert "a secret" not in str(body)
    assert "msg_9" not in str(body)
    assert "Yes" in str(body)


@every_provider
async def test_an_image_in_line_is_sent(client: PydanticAiClient, server: FakeProvider, provider: Provider) -> None:
    server.add(HELLO)
    image = ImageBlock(source=Base64Source(media_type="image/png", data=PIXEL))

    await answer_of(client, request_to(server.ref(provider), UserTurn((TextBlock(text="what?"), image))))

    body = server.requests[0].body
    match provider:
        case "anthropic":
            assert {"type": "base64", "media_type": "image/png", "data": PIXEL} in found(body, "source")
        case "google":
            assert found(body, "inlineData") == [{"mime_type": "image/png", "data": PIXEL}]
        case "openai":
            assert found(body, "image_url") == [f"data:image/png;base64,{PIXEL}"]
        case _:
            assert found(body, "image_url") == [{"url": f"data:image/png;base64,{PIXEL}"}]


@every_provider
async def test_an_image_that_a_tool_returned_is_sent(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(HELLO)
    call = Answer([AnswerToolCall("call_7", "add", {})], Usage(), "tool_calls", "m")
    image = ImageBlock(source=Base64Source(media_type="image/png", data=PIXEL))
    results = ToolResults((ToolResult("call_7", "add", (TextBlock(text="here"), image), is_error=False),))

    await answer_of(client, request_to(server.ref(provider), user("go"), recorded(call), results, tools=[ADD]))

    assert PIXEL in str(server.requests[0].body)


@every_provider
async def test_the_system_prompt_is_the_systems(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(HELLO)

    await answer_of(client, request_to(server.ref(provider), system="Be brief."))

    body = server.requests[0].body
    match provider:
        case "anthropic":
            assert body["system"] == [{"type": "text", "text": "Be brief."}]
        case "google":
            assert found(body["systemInstruction"], "text") == ["Be brief."]
        case "openai":
            assert body["instructions"] == "Be brief."
        case _:
            assert found(body, "messages") == [
                [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
            ]


@every_provider
async def test_instructions_in_the_middle_arrive_where_they_were_given(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(HELLO)
    said = recorded(Answer([AnswerText("Yes")], Usage(), "stop", "m"))

    await answer_of(
        client, request_to(server.ref(provider), user("hi"), said, SystemTurn("Speak French."), user("and?"))
    )

    tail = [str(message) for message in tail_of(server.requests[0])]
    assert any("Speak French." in message for message in tail[1:])


@every_provider
async def test_user_turns_in_a_row_all_arrive(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(HELLO)

    await answer_of(client, request_to(server.ref(provider), user("one"), user("two"), user("three")))

    body = str(server.requests[0].body)
    assert body.index("one") < body.index("two") < body.index("three")


@every_provider
async def test_usage_counts_cached_tokens_as_input(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Reply([Text("ok")], Usage(input_tokens=100, output_tokens=7, cache_read_input_tokens=60)))

    answer = await answer_of(client, request_to(server.ref(provider)))

    assert answer.usage == Usage(input_tokens=100, output_tokens=7, cache_read_input_tokens=60)


async def test_usage_tells_what_anthropic_wrote_to_its_cache(client: PydanticAiClient, server: FakeProvider) -> None:
    usage = Usage(input_tokens=100, output_tokens=7, cache_read_input_tokens=60, cache_creation_input_tokens=30)
    server.add(Reply([Text("ok")], usage))

    assert (await answer_of(client, request_to(server.ref("anthropic")))).usage == usage


@every_provider
async def test_an_answer_that_is_too_long_says_so(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Reply([Text("half a sen")], finish="max_tokens"))

    answer = await answer_of(client, request_to(server.ref(provider)))

    assert answer.finish_reason == "max_tokens"
    assert [part.text for part in answer.parts if isinstance(part, AnswerText)] == ["half a sen"]


@every_provider
async def test_a_refusal_is_an_answer(client: PydanticAiClient, server: FakeProvider, provider: Provider) -> None:
    server.add(Reply([], finish="refusal"))

    assert (await answer_of(client, request_to(server.ref(provider)))).finish_reason == "refusal"


@pytest.mark.parametrize("provider", ["anthropic", "openai", "openai-compatible"])
@pytest.mark.parametrize("written", ['{"a": 1, "b"', "[1, 2]", '"text"', '{"a": NaN}'])
async def test_arguments_that_are_no_object_are_kept_as_text(
    client: PydanticAiClient, server: FakeProvider, provider: Provider, written: str
) -> None:
    server.add(Reply([ToolCall("add", written)]))

    answer = await answer_of(client, request_to(server.ref(provider), tools=[ADD]))

    assert [part.input for part in answer.parts if isinstance(part, AnswerToolCall)] == [{"__invalid_json__": written}]


@every_provider
async def test_settings_reach_the_provider(client: PydanticAiClient, server: FakeProvider, provider: Provider) -> None:
    server.add(HELLO)
    settings = ModelSettings(max_tokens=77, temperature=0.5, top_p=0.25)

    await answer_of(client, request_to(server.ref(provider, settings=settings)))

    body = server.requests[0].body
    names = {"google": "maxOutputTokens", "openai": "max_output_tokens", "anthropic": "max_tokens"}
    assert found(body, names.get(provider, "max_completion_tokens")) == [77]
    assert found(body, "temperature") == [0.5]
    assert found(body, "topP" if provider == "google" else "top_p") == [0.25]


async def test_effort_is_worded_as_the_provider_does(client: PydanticAiClient, server: FakeProvider) -> None:
    settings = ModelSettings(effort="high", max_tokens=40_000)
    for provider, model in MODELS.items():
        server.add(HELLO)
        await answer_of(client, request_to(server.ref(provider, model=model, settings=settings)))

    bodies = {got.protocol: got.body for got in server.requests}
    assert found(bodies["responses"], "effort") == ["high"]
    assert found(bodies["anthropic"], "thinking")
    assert found(bodies["google"], "thinkingConfig")


@every_provider
async def test_a_rate_limit_says_how_long_to_wait(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Fault(429, "slow down", {"retry-after": "7"}))

    failure = await failure_of(client, request_to(server.ref(provider)))

    assert failure.kind == "rate_limited"
    assert failure.retry_after == timedelta(seconds=7)
    assert failure.message == f"{provider} answered 429: slow down"
    assert failure.provider == provider


@every_provider
@pytest.mark.parametrize("status", [408, 409, 500, 503, 529])
async def test_a_passing_failure_is_told_after_one_attempt(
    client: PydanticAiClient, server: FakeProvider, provider: Provider, status: int
) -> None:
    server.add(Fault(status, "try later"))

    failure = await failure_of(client, request_to(server.ref(provider)))

    assert failure.kind == "retryable"
    assert len(server.requests) == 1


@every_provider
async def test_a_wrong_key_is_fatal_and_not_repeated_in_the_message(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Fault(401, f"invalid key {SECRET}\nfor this project"))

    failure = await failure_of(client, request_to(server.ref(provider)))

    assert failure.kind == "fatal"
    assert SECRET not in failure.model_dump_json()
    assert "invalid key *** for this project" in failure.message


@every_provider
@pytest.mark.parametrize("how", ["cut", "data: {broken\n\n"])
async def test_a_broken_stream_is_retryable(
    client: PydanticAiClient, server: FakeProvider, provider: Provider, how: str
) -> None:
    server.add(Broken(HELLO, after=4, how=how))

    failure = await failure_of(client, request_to(server.ref(provider)))

    assert failure.kind == "retryable"


@pytest.mark.parametrize("provider", ["anthropic", "google", "openai"])
async def test_a_stream_that_ends_before_its_answer_is_retryable(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Broken(HELLO, after=2, how="end"))

    failure = await failure_of(client, request_to(server.ref(provider)))

    assert failure.kind == "retryable"
    assert "the stream ended before the answer did" in failure.message


async def test_an_overload_told_inside_the_stream_is_retryable(client: PydanticAiClient, server: FakeProvider) -> None:
    error = 'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n'
    server.add(Broken(HELLO, after=4, how=error))

    failure = await failure_of(client, request_to(server.ref("anthropic")))

    assert failure.kind == "retryable"
    assert failure.message == "anthropic answered 529: busy"


async def test_a_port_where_nobody_listens_is_retryable(client: PydanticAiClient) -> None:
    async with FakeProvider() as gone:
        ref = gone.ref("openai-compatible")

    failure = await failure_of(client, request_to(ref))

    assert failure.kind == "retryable"
    assert failure.message.startswith("the connection to openai-compatible failed")


@every_provider
async def test_cancelling_in_mid_stream_hangs_up(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Broken(HELLO, after=4, how=asyncio.Event()))
    task = asyncio.create_task(answer_of(client, request_to(server.ref(provider))))
    received = await server.received()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(received.hung_up.wait(), timeout=45)


@every_provider
async def test_closing_the_generator_in_mid_stream_hangs_up(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(Broken(HELLO, after=4, how=asyncio.Event()))

    async with aclosing(client.stream(request_to(server.ref(provider)))) as chunks:
        first = await anext(chunks)

    assert isinstance(first, Delta)
    await asyncio.wait_for(server.requests[0].hung_up.wait(), timeout=45)


@every_provider
async def test_a_stalled_stream_goes_on_where_it_was(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    released = asyncio.Event()
    server.add(Broken(HELLO, after=4, how=released))
    texts = []

    async for chunk in client.stream(request_to(server.ref(provider))):
        released.set()
        texts.append(chunk.text if isinstance(chunk, Delta) else chunk.finish_reason)

    assert texts == ["Hello ", "wide ", "world", "stop"]


async def test_concurrent_calls_share_the_client(client: PydanticAiClient, server: FakeProvider) -> None:
    server.add(*[Paced(Reply([Text(f"answer {n}")]), timedelta(milliseconds=1)) for n in range(20)])

    answers = await asyncio.gather(*[answer_of(client, request_to(server.ref("anthropic"))) for _ in range(20)])

    assert len({str(answer.parts) for answer in answers}) == 20


async def test_a_closed_client_connects_again(client: PydanticAiClient, server: FakeProvider) -> None:
    server.add(HELLO, HELLO)
    await answer_of(client, request_to(server.ref("anthropic")))

    await client.aclose()

    assert (await answer_of(client, request_to(server.ref("anthropic")))).finish_reason == "stop"


async def test_scripted_models_are_not_ours(client: PydanticAiClient) -> None:
    failure = await failure_of(client, request_to(ModelRef(provider="scripted", model="demo")))

    assert failure.kind == "fatal"
    assert failure.error_class == "ModelNotFoundError"
