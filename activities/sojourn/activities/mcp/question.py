"""What a server asks the user in the middle of a call, and what the client answers."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from mcp import types
from pydantic import JsonValue
from pydantic import ValidationError as ShapeError
from referencing.exceptions import Unresolvable

from sojourn.types.content import text_of
from sojourn.types.event import UserCustomToolResult
from sojourn.types.id import EventId, new_event_id
from sojourn.types.mcp import McpQuestion

_HOW = 'answer with JSON: {"action": "accept", "content": {…}}, {"action": "decline"} or {"action": "cancel"}'

WITHDRAWN = types.ElicitResult(action="cancel")
"""What a server hears to whom nobody has answered."""


class AnswerError(Exception):
    """The answer is none; the text says why, for the client."""


@dataclass
class Question:
    """One question, from the server's asking to its getting an answer."""

    server: str
    params: types.ElicitRequestParams
    answer: asyncio.Future[types.ElicitResult]
    id: EventId = field(default_factory=new_event_id)
    note: str = ""
    told: bool = False
    """Whether the session knows of it."""

    def again(self, note: str) -> None:
        """Ask once more, under an id of its own."""
        self.id, self.note, self.told = new_event_id(), note, False

    def shown(self) -> McpQuestion:
        """As the session's log has it."""
        schema = self.params.requested_schema if isinstance(self.params, types.ElicitRequestFormParams) else None
        return McpQuestion(
            id=self.id,
            mcp_server_name=self.server,
            message=self.params.message,
            requested_schema=cast("dict[str, JsonValue] | None", schema),
            url=self.params.url if isinstance(self.params, types.ElicitRequestURLParams) else "",
            note=self.note,
        )


def read_answer(question: Question, event: UserCustomToolResult) -> types.ElicitResult:
    """What the client's result says to the server.

    An error declines. Values without an action accept.

    Raises:
        AnswerError: It is no answer, or its values are not what the server asked for.
    """
    if event.is_error:
        return types.ElicitResult(action="decline")
    loose = _object(text_of(event.content))
    if "action" not in loose:
        loose = {"action": "accept", "content": loose}
    if isinstance(question.params, types.ElicitRequestURLParams):
        loose.pop("content", None)
    try:
        result = types.ElicitResult.model_validate(loose)
    except ShapeError as error:
        fault = error.errors()[0]
        raise AnswerError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}; {_HOW}") from None
    if result.action == "accept" and isinstance(question.params, types.ElicitRequestFormParams):
        _check(result.content or {}, question.params.requested_schema)
        return result.model_copy(update={"content": result.content or {}})
    return result.model_copy(update={"content": None})


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise AnswerError(f"that is no JSON; {_HOW}") from None
    if not isinstance(found, dict):
        raise AnswerError(f"that is no object of JSON; {_HOW}")
    return found


def _check(values: Mapping[str, str | int | float | bool | Sequence[str] | None], schema: dict[str, object]) -> None:
    try:
        error = best_match(Draft202012Validator(schema).iter_errors(values))
    except (SchemaError, Unresolvable, TypeError, ValueError, AttributeError):
        # A schema that is none asks for nothing; its server will judge.
        return
    if isinstance(error, ValidationError):
        where = ".".join(map(str, error.absolute_path))
        raise AnswerError(f"{where + ': ' if where else ''}{error.message}")
