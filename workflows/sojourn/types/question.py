"""The tool `ask_user`: questions of the agent, and what the client answers."""

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic import Field, JsonValue, ValidationError, model_validator

from sojourn.types.error import InvalidRequestError
from sojourn.types.wire import Wire

ASK_USER = "ask_user"

ASK_USER_DESCRIPTION = """\
Ask the user one to four questions, each with two to four options, and wait for the answers. Use it where the user's \
decision is needed and cannot be found out. The user may also answer in words of their own."""


class Option(Wire):
    """One possible answer."""

    label: str = Field(min_length=1, max_length=200, description="The answer in one to five words")
    description: str = Field(default="", max_length=2000, description="What choosing it means")


class Question(Wire):
    """One question."""

    question: str = Field(min_length=1, max_length=2000, description="The whole question")
    header: str = Field(min_length=1, max_length=12, description="A label of at most 12 characters")
    options: tuple[Option, ...] = Field(min_length=2, max_length=4, description="Two to four answers to choose from")
    multi_select: bool = Field(default=False, description="Whether several options may be chosen")

    @model_validator(mode="after")
    def _distinct(self) -> "Question":
        labels = [option.label for option in self.options]
        if len(set(labels)) < len(labels):
            raise ValueError("two options have the same label")
        return self


class AskUserInput(Wire):
    """What the model hands to the tool."""

    questions: tuple[Question, ...] = Field(min_length=1, max_length=4, description="One to four questions")

    @model_validator(mode="after")
    def _distinct(self) -> "AskUserInput":
        texts = [each.question for each in self.questions]
        if len(set(texts)) < len(texts):
            raise ValueError("two questions are the same")
        return self


Choice = str | Sequence[str]
"""Labels of options, or words of one's own; several where the question takes several."""

Answers = Sequence[Choice] | Mapping[str, Choice]
"""One for each question: in their order, or by the question's text or header."""


def ask_user_schema() -> dict[str, JsonValue]:
    """JSON schema of the tool's input, without references."""
    schema = AskUserInput.model_json_schema()
    definitions = cast("dict[str, JsonValue]", schema.pop("$defs"))
    return cast("dict[str, JsonValue]", _plain(_resolved(schema, definitions)))


def _resolved(value: JsonValue, definitions: Mapping[str, JsonValue]) -> JsonValue:
    if isinstance(value, list):
        return [_resolved(each, definitions) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str):
        return _resolved(definitions[reference.rpartition("/")[2]], definitions)
    return {key: _resolved(each, definitions) for key, each in value.items()}


def _plain(value: JsonValue, *, names: bool = False) -> JsonValue:
    """Without the titles and docstrings of our classes."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    ours = {"title"} | ({"description"} if value.get("type") == "object" else set())
    return {key: _plain(each, names=key == "properties") for key, each in value.items() if names or key not in ours}


def read_questions(input: Mapping[str, JsonValue]) -> AskUserInput:
    """What the model asks.

    Raises:
        InvalidRequestError: The input breaks the schema; says how.
    """
    try:
        return AskUserInput.model_validate(dict(input))
    except ValidationError as error:
        raise InvalidRequestError.from_validation(error) from None


def answer_text(input: Mapping[str, JsonValue], answers: Answers) -> str:
    """The answers as the model gets them.

    Raises:
        InvalidRequestError: There are not as many as questions, one is empty, or several are given where the question
            takes one.
    """
    questions = read_questions(input).questions
    given = _in_order(questions, answers)
    return "\n\n".join(
        f"{question.question}\n{_chosen(question, choice, place)}"
        for place, (question, choice) in enumerate(zip(questions, given, strict=True))
    )


def _in_order(questions: Sequence[Question], answers: Answers) -> list[Choice]:
    if isinstance(answers, Mapping):
        return _by_name(questions, answers)
    if isinstance(answers, str) or len(answers) != len(questions):
        number = 1 if isinstance(answers, str) else len(answers)
        text = f"{number} answers to {len(questions)} questions; give one for each, in a list"
        raise InvalidRequestError(f"answers: {text}", param="answers")
    return list(answers)


def _by_name(questions: Sequence[Question], answers: Mapping[str, Choice]) -> list[Choice]:
    left, found = dict(answers), list[Choice]()
    for question in questions:
        name = question.question if question.question in left else question.header
        if name not in left:
            text = f"no answer to {question.question!r}; give one by the question's text or header"
            raise InvalidRequestError(f"answers: {text}", param="answers")
        found.append(left.pop(name))
    if left:
        raise InvalidRequestError(f"answers.{next(iter(left))}: there is no such question", param="answers")
    return found


def _chosen(question: Question, choice: Choice, place: int) -> str:
    chosen = [choice.strip()] if isinstance(choice, str) else [each.strip() for each in choice]
    path = f"answers.{place}"
    if not chosen or not all(chosen):
        raise InvalidRequestError(f"{path}: empty; choose an option or write an answer", param=path)
    if len(chosen) > 1 and not question.multi_select:
        text = f"{len(chosen)} answers where {question.question!r} takes one"
        raise InvalidRequestError(f"{path}: {text}; choose one", param=path)
    if len(set(chosen)) < len(chosen):
        raise InvalidRequestError(f"{path}: the same answer twice; leave one out", param=path)
    labels = {option.label for option in question.options}
    return ", ".join(each if each in labels else f"{each} (in the user's own words)" for each in chosen)
