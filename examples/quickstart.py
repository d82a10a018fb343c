import asyncio

from sojourn.client import AgentRuntime
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentDefinition


async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"{city}: sunny, 24 °C"


SCRIPT = [ScriptedTurn(calls=[ScriptedCall("weather", {"city": "Lisbon"})]), ScriptedTurn(text="Sunny, at 24 °C.")]


async def main() -> None:
    async with AgentRuntime.embedded(tools=[weather], scripts={"lisbon": SCRIPT}) as runtime:
        agent = await runtime.create(AgentDefinition(name="guide", model="scripted:lisbon", tools=["weather"]))
        session = await runtime.start_session(agent)
        print((await session.send_and_wait("What is the weather in Lisbon?")).text)


if __name__ == "__main__":
    asyncio.run(main())
