"""What both sides do in a turn: the same texts, the same answers, no waiting for anything."""

from datetime import timedelta

from sojourn.activities.conversation import ToolResults
from sojourn.activities.model import ModelRequest
from sojourn.testing import Script, ScriptedCall, ScriptedTurn, last_text

QUESTION = "What does our handbook say about this case? " * 5
"""About 200 characters, as a user writes."""
CITY = "Paris"
RESULT = ("The handbook says that the second paragraph applies where the first one does not. " * 13)[:1000]
"""1,000 characters, as a small tool returns."""
REPLY = "The second paragraph applies, because the first one does not. " * 4
"""About 250 characters, as a model answers."""
UNFINISHED = "Let me think about this for a while"
"""What a model streams before it stalls."""

STALL = "stall"
"""A message that makes the raw model stall; ours has an agent of its own for that."""


async def look_up(city: str) -> str:
    """Look something up."""
    return RESULT


def _life(request: ModelRequest) -> ScriptedTurn:
    """A turn with a tool call, or one that never ends, as the message wants it."""
    last = request.messages[-1]
    if isinstance(last, ToolResults):
        return ScriptedTurn(text=REPLY)
    if last_text(request) == STALL:
        return ScriptedTurn(text=UNFINISHED, chunk_delay=timedelta(milliseconds=5), stall=True)
    return ScriptedTurn(calls=[ScriptedCall("look_up", {"city": CITY})])


BASH_SCRIPT = "bash"
SANDBOX_SCRIPTS: dict[str, Script] = {
    "turn": [ScriptedTurn(calls=[ScriptedCall("look_up", {"city": CITY})]), ScriptedTurn(text=REPLY)],
    BASH_SCRIPT: [
        ScriptedTurn(calls=[ScriptedCall("bash", {"command": f"echo '{RESULT}'"})]),
        ScriptedTurn(text=REPLY),
    ],
}

SCRIPTS: dict[str, Script] = {
    "turn": [ScriptedTurn(calls=[ScriptedCall("look_up", {"city": CITY})]), ScriptedTurn(text=REPLY)],
    "life": _life,
    STALL: [ScriptedTurn(text=UNFINISHED, chunk_delay=timedelta(milliseconds=5), stall=True)],
}
