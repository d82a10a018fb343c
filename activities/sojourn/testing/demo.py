"""The agent of `sojourn demo`: a travel desk with four tools, and the script it answers from where no model is given.

The tools leave their effects in a ledger outside the session, one line each, as a bank or a hotel would. What a tool
has done stays done, whatever becomes of the process that runs it.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sojourn.activities.context import ToolContext
from sojourn.activities.conversation import ToolResult, ToolResults
from sojourn.activities.model import ModelRequest
from sojourn.activities.tool import tool
from sojourn.testing.scripted import ScriptedCall, ScriptedTurn, last_text
from sojourn.types.agent import AgentDefinition, FunctionTool
from sojourn.types.content import text_of
from sojourn.types.id import EventId, SessionId
from sojourn.types.model import ModelRef

LEDGER_VARIABLE = "SOJOURN_DEMO_LEDGER"
"""Names the folder of the ledgers to the worker."""

SLOW = timedelta(seconds=2.5)
"""How long the hotel and the bank take, so that there is time to kill the worker."""

EFFECTIVE_TOOLS = ("book_table", "reserve_room", "charge_card")
"""Those that leave something in the ledger."""

_PACE = timedelta(milliseconds=60)


class Effect(BaseModel):
    """A line of the ledger: something that happened in the world."""

    model_config = ConfigDict(frozen=True)
    tool: str
    key: EventId
    """The tool-use id of the call."""
    attempt: int


def ledger_path(folder: Path, session_id: SessionId) -> Path:
    """Where the effects of a session are."""
    return folder / f"{session_id}.jsonl"


def read_ledger(path: Path) -> list[Effect]:
    """All effects so far, oldest first."""
    return [Effect.model_validate_json(line) for line in path.read_text().splitlines()] if path.exists() else []


@tool
def check_weather(city: str, call: ToolContext) -> str:
    """Tell today's weather in a city."""
    call.sleep_blocking(timedelta(milliseconds=600))
    return f"{city}: sunny, 24 °C"


@tool(permission="ask")
def book_table(restaurant: str, guests: int, call: ToolContext) -> str:
    """Book a table for tonight."""
    _happen("book_table", call)
    return f"{restaurant}, {guests} guests, tonight at 20:00: booked"


@tool(idempotent=True)
def reserve_room(hotel: str, nights: int, call: ToolContext) -> str:
    """Reserve a hotel room. The hotel knows a repeated request by its key."""
    _happen("reserve_room", call)
    _wait(call, "the hotel")
    return f"{hotel}, {nights} nights: reserved"


@tool
def charge_card(euros: int, call: ToolContext) -> str:
    """Charge the guest's card. Each request is a new charge."""
    _happen("charge_card", call)
    _wait(call, "the bank")
    return f"{euros} euros: charged"


def _happen(name: str, call: ToolContext) -> None:
    effect = Effect(tool=name, key=call.tool_use_id, attempt=call.attempt)
    path = ledger_path(Path(os.environ[LEDGER_VARIABLE]), call.session_id)
    with path.open("a") as ledger:
        ledger.write(f"{effect.model_dump_json()}\n")
        ledger.flush()
        os.fsync(ledger.fileno())


def _wait(call: ToolContext, whom: str) -> None:
    parts = 5
    for part in range(parts):
        call.progress(f"attempt {call.attempt}: waiting for {whom}, {part * SLOW.total_seconds() / parts:.1f} s")
        call.sleep_blocking(SLOW / parts)


GREETING = "I have one day in Lisbon. What should I see? Answer in three short sentences, without tools."
BOOKING = (
    "Do two things in one step, with two parallel tool calls: check the weather in Lisbon, and book a table "
    "for 2 guests at Ramiro. Then sum up in one sentence."
)
PAYMENT = (
    "Again two parallel tool calls in one step: reserve a room for 2 nights at Hotel Tejo, and charge the card "
    "with 240 euros. Then tell me in two sentences how it went. Do not repeat a charge whose outcome is unknown."
)
STORY = "Tell me the history of Lisbon, at least 300 words, without tools."
LATE = "One last thing: which tram goes up to the castle? One sentence, without tools."

SCRIPT = "travel-desk"
"""Name of the scripted model."""

_TURNS: Mapping[str, ScriptedTurn] = {
    GREETING: ScriptedTurn(
        text=(
            "Start in Alfama before the heat and climb to the castle for the view. "
            "Have lunch by the river in Belém, with the custard tarts everybody talks about. "
            "End the day at the Miradouro da Graça, where the city turns gold."
        ),
        chunk_delay=_PACE,
    ),
    BOOKING: ScriptedTurn(
        text="I look at the weather and book the table.",
        calls=(
            ScriptedCall("check_weather", {"city": "Lisbon"}),
            ScriptedCall("book_table", {"restaurant": "Ramiro", "guests": 2}),
        ),
    ),
    PAYMENT: ScriptedTurn(
        text="I reserve the room and charge the card.",
        calls=(
            ScriptedCall("reserve_room", {"hotel": "Hotel Tejo", "nights": 2}),
            ScriptedCall("charge_card", {"euros": 240}),
        ),
    ),
    STORY: ScriptedTurn(
        text=(
            "Long before it was a capital, Lisbon was a harbour. Phoenician traders anchored here, Romans walled the "
            "hill, and Moorish builders laid out the lanes of Alfama that you can still get lost in. In 1147 an army "
            "of crusaders took the city for the first king of Portugal. Three centuries later its ships"
        ),
        chunk_delay=_PACE,
        stall=True,
    ),
    LATE: ScriptedTurn(text="Tram 28: get off at Portas do Sol and walk the last few steps.", chunk_delay=_PACE),
}


def answer(request: ModelRequest) -> ScriptedTurn:
    """The script: what the travel desk says next."""
    last = request.messages[-1] if request.messages else None
    if isinstance(last, ToolResults):
        return ScriptedTurn(text=_sum_up(last.results), chunk_delay=_PACE)
    return _TURNS.get(last_text(request), ScriptedTurn(text="I can help you with Lisbon."))


def _sum_up(results: tuple[ToolResult, ...]) -> str:
    said = {result.name: text_of(result.content) for result in results}
    lost = [result.name for result in results if result.is_error]
    done = "; ".join(text for name, text in said.items() if name not in lost)
    if not lost:
        return f"Done. {done}."
    return (
        f"{done}. Of {' and '.join(lost)} I do not know whether it went through, so I do not repeat it: "
        "please look at your statement."
    )


def definition(model: str | None) -> AgentDefinition:
    """The agent, with the script for its model unless one is given."""
    return AgentDefinition(
        name="travel-desk",
        model=ModelRef.of(model or f"scripted:{SCRIPT}"),
        system="You are a travel desk. Be brief. Never claim what the tools did not say.",
        tools=tuple(FunctionTool(name=name) for name in ("check_weather", *EFFECTIVE_TOOLS)),
    )
