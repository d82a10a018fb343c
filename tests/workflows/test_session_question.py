"""The tool `ask_user` in a session: it parks for answers, and only for questions that can be asked."""

import pytest
from pydantic import JsonValue
from tests.conftest import PlayedModel, Stage

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentCustomToolUse, AgentToolResult, AskUserTool, InvalidRequestError

COLOUR: dict[str, JsonValue] = {
    "question": "Which colour?",
    "header": "Colour",
    "options": [{"label": "red", "description": "like fire"}, {"label": "blue"}],
}
SIZES: dict[str, JsonValue] = {
    "question": "Which sizes?",
    "header": "Sizes",
    "options": [{"label": "S"}, {"label": "M"}, {"label": "L"}],
    "multi_select": True,
}
DONE = ScriptedTurn(text="done")


def ask(*questions: JsonValue) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("ask_user", {"questions": list(questions)})])


async def test_the_answers_get_to_the_model(stage: Stage) -> None:
    model = PlayedModel(ask(COLOUR, SIZES), DONE)
    probe = await stage.session(script=model, custom=[AskUserTool()])

    await probe.session.send("go")
    await probe.parked()
    call = await probe.saw(AgentCustomToolUse)
    await probe.session.answer(call, ["red", ["S", "extra large"]])
    await probe.idle(2, "end_turn")

    expected = "Which colour?\nred\n\nWhich sizes?\nS, extra large (in the user's own words)"
    assert model.context()[-1][1].endswith(expected)
    assert [spec.name for spec in model.requests[0].tools] == ["ask_user"]


async def test_answers_by_name_need_only_the_id_of_the_call(stage: Stage) -> None:
    probe = await stage.session(ask(COLOUR, SIZES), DONE, custom=[AskUserTool()])
    await probe.session.send("go")
    (id,) = await probe.parked()

    await stage.runtime.answer(probe.session, id, {"Colour": "blue", "Which sizes?": ["S", "M"]})
    await probe.idle(2, "end_turn")


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        (["red"], "1 answers to 2 questions"),
        (["", "S"], "answers.0: empty"),
        ([["red", "blue"], "S"], "takes one"),
        (["red", ["S", "S"]], "the same answer twice"),
        ({"Colour": "red"}, "no answer to 'Which sizes"),
        ({"Colour": "red", "Sizes": "S", "Shoes": "42"}, "there is no such question"),
    ],
)
async def test_answers_that_do_not_fit_are_refused_and_change_nothing(
    stage: Stage, answers: list[str], fault: str
) -> None:
    probe = await stage.session(ask(COLOUR, SIZES), DONE, custom=[AskUserTool()])
    await probe.session.send("go")
    await probe.parked()
    call = await probe.saw(AgentCustomToolUse)

    with pytest.raises(InvalidRequestError, match=fault):
        await probe.session.answer(call, answers)

    assert len(await probe.session.pending_actions()) == 1


@pytest.mark.parametrize(
    "questions",
    [[COLOUR] * 5, [], [COLOUR, COLOUR], [{**COLOUR, "header": "a header too long"}], [{**COLOUR, "options": []}]],
    ids=["five", "none", "twice", "long header", "no options"],
)
async def test_questions_that_cannot_be_asked_come_back_as_an_error_at_once(
    stage: Stage, questions: list[JsonValue]
) -> None:
    probe = await stage.session(ask(*questions), DONE, custom=[AskUserTool()])

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    (result,) = probe.of(AgentToolResult)
    assert (result.outcome, result.text.partition(".")[0]) == ("error", "Invalid arguments")


async def test_where_nobody_is_there_the_agent_is_told_to_decide(stage: Stage) -> None:
    probe = await stage.session(ask(COLOUR), DONE, custom=[AskUserTool()], interactive=False)

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    (result,) = probe.of(AgentToolResult)
    assert result.is_error
    assert "Decide yourself" in result.text
