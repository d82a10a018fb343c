import asyncio
import json

import pytest
from mcp import types

from sojourn.activities.mcp.question import AnswerError, Question, read_answer
from sojourn.types.content import TextBlock
from sojourn.types.event import UserCustomToolResult
from sojourn.types.id import EventId

SCHEMA = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}


async def question(schema: object = SCHEMA) -> Question:
    params = types.ElicitRequestFormParams(message="Which?", requested_schema=schema)  # type: ignore[arg-type]
    return Question("docs", params, asyncio.get_running_loop().create_future())


def answer(text: object, *, is_error: bool = False) -> UserCustomToolResult:
    said = text if isinstance(text, str) else json.dumps(text)
    return UserCustomToolResult(custom_tool_use_id=EventId("q"), content=(TextBlock(text=said),), is_error=is_error)


@pytest.mark.parametrize(
    ("given", "action", "content"),
    [
        ({"action": "accept", "content": {"size": 3}}, "accept", {"size": 3}),
        ({"size": 3}, "accept", {"size": 3}),
        ({"action": "decline", "content": {"size": 3}}, "decline", None),
        ({"action": "cancel"}, "cancel", None),
    ],
)
async def test_answer_is_read(given: object, action: str, content: object) -> None:
    result = read_answer(await question(), answer(given))

    assert (result.action, result.content) == (action, content)


async def test_error_declines() -> None:
    assert read_answer(await question(), answer("no", is_error=True)).action == "decline"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("three", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ([3], "no object"),
        ({"action": "maybe"}, "action"),
        ({"action": "accept"}, "'size' is a required property"),
        ({"action": "accept", "content": {"size": "3"}}, "size: '3' is not of type 'integer'"),
        ({"action": "accept", "content": {"size": {"a": 1}}}, "content"),
    ],
)
async def test_wrong_answer_says_what_is_wrong(given: object, why: str) -> None:
    with pytest.raises(AnswerError, match=why):
        read_answer(await question(), answer(given))


async def test_schema_that_is_none_asks_for_nothing() -> None:
    assert read_answer(await question({"type": 5}), answer({"size": "x"})).action == "accept"


async def test_question_with_a_page_takes_no_values() -> None:
    params = types.ElicitRequestURLParams(message="Look", url="https://page.test", elicitation_id="1")
    asked = Question("docs", params, asyncio.get_running_loop().create_future())

    assert asked.shown().url == "https://page.test"
    assert read_answer(asked, answer({"action": "accept", "content": {"a": 1}})).content is None
