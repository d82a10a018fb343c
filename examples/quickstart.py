"""An agent with one tool, on a Temporal server that starts with it: python examples/quickstart.py."""

import asyncio

from sojourn.client import AgentRuntime
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentDefinition


async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"{city}: sunny, 24 °C"


SCRIPT = [
    ScriptedTurn(text="I look it up.", calls=[ScriptedCall("weather", {"city": "Lisbon"})]),
    ScriptedTurn(text="It is sunny in Lisbon, at 24 °C."),
]


async def main() -> None:
    async with AgentRuntime.embedded(tools=[weather], scripts={"lisbon": SCRIPT}) as runtime:
        agent = await runtime.create(AgentDefinition(name="guide", model="scripted:lisbon", tools=["weather"]))
        session = await runtime.start_session(agent)
        reply = await session.send_and_wait("What is the weather in Lisbon?")
        print(reply.text)


asyncio.run(main())
