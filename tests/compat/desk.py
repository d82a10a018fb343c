"""What `script.py` meets: a scripted model that does what it is told, and the functions of its worker.

sojourn up --tools desk --scripts desk          (in this folder)
"""

import re
from datetime import timedelta

from sojourn.activities import tool
from sojourn.activities.conversation import ToolResults
from sojourn.activities.model import ModelRequest
from sojourn.testing import ScriptedCall, ScriptedTurn, last_text

_STORY = "Once upon a time there was an order that nobody had placed, and it went from desk to desk for many years."


@tool(idempotent=True)
async def lookup_order(number: int) -> str:
    """Look an order up.

    Args:
        number: As printed on the invoice.
    """
    return f"order {number} is shipped"


@tool(permission="allow")
async def refund_order(number: int) -> str:
    """Pay an order back.

    Args:
        number: As printed on the invoice.
    """
    return f"order {number} is refunded"


def answer(request: ModelRequest) -> ScriptedTurn:
    """The next step: the tool that the message names, a story without end, or words."""
    told = last_text(request)
    if request.messages and isinstance(request.messages[-1], ToolResults):
        return ScriptedTurn(text=f"It says: {told}")
    if (named := re.search(r"Use (\w+) for (?:number (\d+)|(.+)\.)", told)) is not None:
        name, number, subject = named.groups()
        given: dict[str, str | int] = {"number": int(number)} if number else {"question": f"What is {subject}?"}
        return ScriptedTurn(calls=[ScriptedCall(name, given)])
    if "story" in told:
        return ScriptedTurn(text=_STORY, chunk_delay=timedelta(milliseconds=20), stall=True)
    return ScriptedTurn(text="Hello, this is the order desk.", thinking="They greet.")


SCRIPTS = {"desk": answer}
