"""Questions of an agent, and what may answer them."""

import pytest
from pydantic import JsonValue

from sojourn.types.error import InvalidRequestError
from sojourn.types.question import answer_text, ask_user_schema, read_questions

TWO: dict[str, JsonValue] = {
    "questions": [
        {"question": "Which?", "header": "Which", "options": [{"label": "a"}, {"label": "b"}]},
        {"question": "More?", "header": "More", "options": [{"label": "c"}, {"label": "d"}], "multi_select": True},
    ]
}


def test_the_schema_says_the_limits_without_references() -> None:
    schema = str(ask_user_schema())

    assert "$ref" not in schema
    assert "'maxItems': 4" in schema
    assert "'maxLength': 12" in schema
    assert "title" not in schema


def test_answers_are_labels_or_own_words() -> None:
    assert answer_text(TWO, ["a", ["c", "d"]]) == "Which?\na\n\nMore?\nc, d"
    assert answer_text(TWO, {"Which?": "none", "More": "c"}).startswith("Which?\nnone (in the user's own words)")


@pytest.mark.parametrize("input", [{}, {"questions": "x"}, {"questions": TWO["questions"], "more": 1}])
def test_what_asks_nothing_is_refused(input: dict[str, JsonValue]) -> None:
    with pytest.raises(InvalidRequestError):
        read_questions(input)
