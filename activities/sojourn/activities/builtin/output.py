"""What the guest answers, checked, and how the model is shown long output."""

import re
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from sojourn.activities.context import ToolContext
from sojourn.activities.tool import ToolFailedError
from sojourn.sandbox.guest_client import GuestError
from sojourn.types.error import SandboxError

LIMIT = 100_000
"""Characters of a result; what is longer goes to a file in the workspace."""

NO_OUTPUT = "[no output]"
"""Models' APIs refuse an empty text."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Answer(BaseModel):
    """What an op answers. A later guest may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Output(Answer):
    """What a command has written: all of it, or its end."""

    text: str
    truncated: bool
    size_bytes: int
    path: str | None
    """The file with all of it, as the agent knows it."""
    path_truncated: bool

    def shown(self) -> str:
        """For the model."""
        text = plain(self.text)
        if not self.truncated:
            return text
        if self.path is None:
            where = "the rest is lost"
        else:
            where = f"{'the start' if self.path_truncated else 'all'} of it is in {self.path}"
        note = f"[output truncated: this is the end of {self.size_bytes} bytes; {where}]\n"
        return note + text[len(note) - LIMIT :]


A = TypeVar("A", bound=Answer)


async def ask(context: ToolContext, op: str, arguments: Mapping[str, JsonValue], answer: type[A]) -> A:
    """Let the workspace's guest do something for the call.

    Raises:
        ToolFailedError: It did not work out; the text is for the model.
    """
    named = {**arguments, "name": str(context.tool_use_id)}
    try:
        guest = await context.workspace.guest()
        return answer.model_validate(await guest.call(op, named, progress=context.progress))
    except GuestError as error:
        raise ToolFailedError(error.message) from None
    except SandboxError as error:
        raise ToolFailedError(f"{error}. Files are kept; the next call gets a new sandbox") from None
    except ValidationError:
        raise ToolFailedError(f"{op}: the sandbox gave an answer that makes no sense") from None


class _Spilled(Answer):
    path: str


async def fit(context: ToolContext, text: str) -> str:
    """The text as the model may get it: if it is too long, its start and the file in the workspace with all of it.

    Raises:
        ToolFailedError: It is too long, and there is no place for it.
    """
    if len(text) <= LIMIT:
        return text
    path = (await ask(context, "spill", {"text": text}, _Spilled)).path
    note = f"\n[output truncated: this is the start of {len(text)} characters; all of it is in {path}]"
    return text[: LIMIT - len(note)] + note


def plain(text: str) -> str:
    """The text without what colours it on a terminal, and without NUL, which not every store can hold."""
    return _ANSI.sub("", text).replace("\0", "\ufffd")
