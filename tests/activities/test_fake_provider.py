import anthropic
import openai
import pytest
from google import genai

from sojourn.testing.protocol import Reply, Text, Thinking, ToolCall
from sojourn.testing.provider import FakeProvider, Fault

REPLY = Reply([Thinking("hm", "c2ln"), Text("Hello"), ToolCall("add", '{"a": 1}')])


async def test_chat_completions_without_streaming() -> None:
    async with FakeProvider(REPLY) as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_responses_without_streaming() -> None:
    async with FakeProvider(REPLY) as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
        answer = await client.responses.create(model="m", input="hi")

    assert answer.output_text == "Hello"
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]


async def test_anthropic_messages_without_streaming() -> None:
    async with FakeProvider(REPLY) as server, anthropic.AsyncAnthropic(base_url=server.url, api_key="k") as client:
        answer = await client.messages.create(
            model="m", max_tokens=10, messages=[{"role": "user", "content": "hi"}], stream=False
        )

    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use"]
    assert answer.stop_reason == "tool_use"


async def test_google_without_streaming() -> None:
    async with FakeProvider(REPLY) as server:
        options = genai.types.HttpOptions(base_url=server.url)
        async with genai.Client(api_key="k", http_options=options).aio as client:
            answer = await client.models.generate_content(model="m", contents="hi")

    assert answer.function_calls is not None
    assert [call.name for call in answer.function_calls] == ["add"]


async def test_a_request_past_the_end_of_the_script_is_told_so() -> None:
    async with FakeProvider() as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
        with pytest.raises(openai.BadRequestError, match="has no more answers"):
            await client.responses.create(model="m", input="hi")


async def test_a_patient_one_gives_the_same_reply_to_the_same_request() -> None:
    replies = (Reply([Text("one")]), Fault(400), Reply([Text("two")]))

    async with (
        FakeProvider(*replies, patient=True) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k") as client,
    ):
        said = [(await client.responses.create(model="m", input="hi")).output_text for _ in range(2)]
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(model="m", input="more")
        said.append((await client.responses.create(model="m", input="more")).output_text)

    assert said == ["one", "one", "two"]
