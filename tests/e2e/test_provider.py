"""A whole session with a model behind a provider's protocol: streamed text, a tool call, its result, the answer."""

from typing import TYPE_CHECKING

import pytest

from sojourn.testing.protocol import Reply, Text, ToolCall
from sojourn.testing.provider import FakeProvider, Fault
from sojourn.types import (
    AgentDefinition,
    AgentMessage,
    Compaction,
    ContextCompacted,
    Limits,
    Provider,
    ProviderError,
    SessionErrorEvent,
    Usage,
)

if TYPE_CHECKING:
    from tests.conftest import Stage

KEY = "sk-very-secret"
ASKED = Reply([Text("I look it up."), ToolCall("weather", '{"city": "Lisbon"}')])
ANSWER = Reply([Text("It is sunny in Lisbon.")])


async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"{city}: sunny"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC", "OPENAI", "GOOGLE"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("provider", ["openai-compatible", "anthropic", "openai", "google"])
async def test_session_runs_on_a_provider(stage: "Stage", provider: Provider) -> None:
    async with FakeProvider(ASKED, ANSWER) as server:
        await stage.work(tools=[weather])
        definition = AgentDefinition(name="guide", model=server.ref(provider), system="Be brief.", tools=["weather"])
        probe = await stage.open(await stage.runtime.create(definition))

        reply = await probe.session.send_and_wait("How is the weather in Lisbon?")
        await probe.idle()

    assert reply.text == "It is sunny in Lisbon."
    assert probe.texts() == ["I look it up.", "It is sunny in Lisbon."]
    assert probe.results()["weather"].text == "Lisbon: sunny"
    assert "Lisbon: sunny" in str(server.requests[1].body)
    history = await stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
    assert KEY not in history.to_json()


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("provider", ["openai-compatible", "anthropic", "openai", "google"])
async def test_provider_gets_the_summary_in_place_of_what_it_stands_for(stage: "Stage", provider: Provider) -> None:
    full = Reply([Text("It is sunny. " * 100)], usage=Usage(input_tokens=900, output_tokens=50))
    async with FakeProvider(ASKED, full, Reply([Text("They spoke of Lisbon.")]), ANSWER) as server:
        await stage.work(tools=[weather])
        definition = AgentDefinition(
            name="guide",
            model=server.ref(provider),
            system="Be brief.",
            tools=["weather"],
            compaction=Compaction(window_tokens=1000),
        )
        probe = await stage.open(await stage.runtime.create(definition))

        await probe.session.send_and_wait("How is the weather in Lisbon?")
        await probe.session.send_and_wait("And tomorrow?")
        await probe.idle(2)

    summary, after = str(server.requests[2].body), str(server.requests[3].body)
    assert "How is the weather in Lisbon?" in summary
    assert "Lisbon: sunny" in summary
    assert "Be brief." not in summary
    assert "And tomorrow?" not in summary
    assert "They spoke of Lisbon." in after
    assert "Be brief." in after
    assert "And tomorrow?" in after
    assert "How is the weather" not in after
    assert len(probe.of(ContextCompacted)) == 1


@pytest.mark.usefixtures("keys")
async def test_conversation_that_a_provider_refuses_is_compacted(stage: "Stage") -> None:
    refused = Fault(400, "prompt is too long: 213462 tokens > 200000 maximum")
    async with FakeProvider(Reply([Text("Hello. " * 50)]), refused, Reply([Text("They met.")]), ANSWER) as server:
        await stage.work()
        definition = AgentDefinition(name="guide", model=server.ref("anthropic"))
        probe = await stage.open(await stage.runtime.create(definition))
        await probe.session.send_and_wait("Hello")

        reply = await probe.session.send_and_wait("How is the weather?")
        await probe.idle(2)

    assert reply.text == "It is sunny in Lisbon."
    assert "They met." in str(server.requests[3].body)


@pytest.mark.usefixtures("keys")
async def test_refused_key_is_told_at_once_and_leaves_the_session_usable(stage: "Stage") -> None:
    refused = Fault(401, message=f"invalid key {KEY}")
    async with FakeProvider(refused, ANSWER) as server:
        await stage.work()
        probe = await stage.open(
            await stage.runtime.create(AgentDefinition(name="guide", model=server.ref("anthropic"), limits=Limits()))
        )

        with pytest.raises(ProviderError) as error:
            await probe.session.send_and_wait("Hello")
        reply = await probe.session.send_and_wait("Again")
        await probe.idle(2)

    assert KEY not in str(error.value)
    assert [each.error.retry_status.type for each in probe.of(SessionErrorEvent)] == ["exhausted"]
    assert isinstance(reply, AgentMessage)
    assert reply.text == "It is sunny in Lisbon."
