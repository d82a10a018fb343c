import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from sojourn.activities.conversation import AssistantTurn, Message, SystemTurn, ToolResult, ToolResults, UserTurn
from sojourn.activities.model import (
    Answer,
    AnswerText,
    AnswerThinking,
    AnswerToolCall,
    Delta,
    ModelCallError,
    ModelRequest,
)
from sojourn.testing import Script, ScriptedCall, ScriptedFailure, ScriptedModel, ScriptedTurn, last_text
from sojourn.types.content import TextBlock
from sojourn.types.failure import ModelFailure
from sojourn.types.model import ModelRef
from sojourn.types.usage import Usage
from sojourn.worker.router import ModelRouter


def user(text: str) -> UserTurn:
    return UserTurn((TextBlock(text=text),))


def results(*texts: str) -> ToolResults:
    return ToolResults(tuple(ToolResult("c", "t", (TextBlock(text=text),), is_error=False) for text in texts))


def asked(*messages: Message, model: str = "s", step: int = 0, attempt: int = 1) -> ModelRequest:
    return ModelRequest(ModelRef.of(f"scripted:{model}"), None, messages, [], step=step, attempt=attempt)


async def streamed(request: ModelRequest, script: Script = ()) -> list[Delta | Answer]:
    async with aclosing(ScriptedModel({"s": script}).stream(request)) as chunks:
        return [chunk async for chunk in chunks]


async def answered(request: ModelRequest, script: Script = ()) -> str:
    *_, answer = await streamed(request, script)
    assert isinstance(answer, Answer)
    return "".join(part.text for part in answer.parts if isinstance(part, AnswerText))


async def failed(request: ModelRequest, script: Script = ()) -> ModelFailure:
    with pytest.raises(ModelCallError) as error:
        await streamed(request, script)
    return error.value.failure


async def test_turn_is_picked_by_the_step() -> None:
    script = [ScriptedTurn("one"), ScriptedTurn("two")]

    assert [await answered(asked(step=step), script) for step in range(3)] == ["one", "two", "one"]


async def test_retry_does_not_consume_a_turn() -> None:
    script = [ScriptedTurn("one"), ScriptedTurn("two")]

    assert [await answered(asked(step=1, attempt=attempt), script) for attempt in (1, 2, 3)] == ["two"] * 3


async def test_step_fails_for_as_many_attempts_as_scripted() -> None:
    script = [ScriptedTurn("at last", failure=ScriptedFailure("rate_limited", "slow down", attempts=2))]

    failures = [await failed(asked(attempt=attempt), script) for attempt in (1, 2)]

    assert failures == [ModelFailure(kind="rate_limited", message="slow down", provider="scripted")] * 2
    assert await answered(asked(attempt=3), script) == "at last"


async def test_answer_streams_word_by_word_and_ends_whole() -> None:
    script = [ScriptedTurn("a  b c", thinking="hm", calls=[ScriptedCall("t", {"x": 1}), ScriptedCall("u")])]

    *deltas, answer = await streamed(asked(step=7), script)

    assert deltas == [
        Delta(0, "thinking", "hm"),
        Delta(1, "text", "a "),
        Delta(1, "text", " "),
        Delta(1, "text", "b "),
        Delta(1, "text", "c"),
    ]
    assert answer == Answer(
        (
            AnswerThinking("hm", signature="scripted"),
            AnswerText("a  b c"),
            AnswerToolCall("call_7_0", "t", {"x": 1}),
            AnswerToolCall("call_7_1", "u", {}),
        ),
        Usage(input_tokens=10, output_tokens=5),
        "tool_calls",
        "scripted:s",
    )


async def test_end_of_an_answer_may_be_scripted() -> None:
    (answer,) = await streamed(asked(), [ScriptedTurn(finish_reason="max_tokens", usage=Usage(output_tokens=1))])

    assert isinstance(answer, Answer)
    assert (answer.finish_reason, answer.usage) == ("max_tokens", Usage(output_tokens=1))


async def test_script_may_be_a_function_of_the_request() -> None:
    def script(request: ModelRequest) -> ScriptedTurn:
        return ScriptedTurn(f"{last_text(request)} {request.step}", chunk_delay=timedelta(0))

    assert await answered(asked(user("hi"), step=4), script) == "hi 4"


async def test_script_may_be_an_async_function_that_holds_the_step() -> None:
    release = asyncio.Event()

    async def script(request: ModelRequest) -> ScriptedTurn:
        await release.wait()
        return ScriptedTurn("at last")

    step = asyncio.create_task(answered(asked(user("hi")), script))
    await asyncio.sleep(0)
    assert not step.done()
    release.set()

    assert await step == "at last"


async def test_echo_is_always_there() -> None:
    assert await answered(asked(user("hi"), model="echo")) == "You said: hi"


async def test_echo_repeats_the_results_of_tools() -> None:
    messages = (user("hi"), AssistantTurn(()), results("a", "b"), SystemTurn("be brief"))

    assert await answered(asked(*messages, model="echo")) == "You said: a\nb"


async def test_script_of_ones_own_may_be_called_echo() -> None:
    async with aclosing(ScriptedModel({"echo": [ScriptedTurn("mine")]}).stream(asked(model="echo"))) as chunks:
        first = await anext(chunks)

    assert first == Delta(0, "text", "mine")


async def test_unknown_script_fails_for_good_and_names_those_there_are() -> None:
    failure = await failed(asked(model="missing"))

    assert (failure.kind, failure.error_class) == ("fatal", "ModelNotFoundError")
    assert failure.message == "the worker has no script 'missing' (it has: echo, s)"


def test_nothing_was_said_before_the_first_message() -> None:
    assert last_text(asked()) == ""


async def test_scripted_models_are_answered_by_the_scripts_of_the_worker() -> None:
    router = ModelRouter(scripted=ScriptedModel())
    try:
        async with aclosing(router.stream(asked(user("hi"), model="echo"))) as chunks:
            text = "".join([chunk.text async for chunk in chunks if isinstance(chunk, Delta)])
    finally:
        await router.aclose()

    assert text == "You said: hi"


async def test_compaction_is_answered_apart_from_the_script() -> None:
    request = replace(asked(user("transcript")), compacts=7)

    assert await answered_by(ScriptedModel({"s": [ScriptedTurn("a step")]}), request) == "A summary of 7 messages."
    scripts = {"s": [ScriptedTurn("a step")], "s/compaction": [ScriptedTurn("my summary")]}
    assert await answered_by(ScriptedModel(scripts), request) == "my summary"


async def answered_by(model: ScriptedModel, request: ModelRequest) -> str:
    async with aclosing(model.stream(request)) as chunks:
        return "".join([chunk.text async for chunk in chunks if isinstance(chunk, Delta)])
