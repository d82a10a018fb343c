import pytest

from sojourn.activities.window import DEFAULT_WINDOW_TOKENS, window_of
from sojourn.types.agent import AgentDefinition, Compaction
from sojourn.types.model import ModelRef


def definition(model: str | ModelRef, **fields: int) -> AgentDefinition:
    return AgentDefinition(name="a", model=model, compaction=Compaction(window_tokens=fields.get("window_tokens")))


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("anthropic:claude-sonnet-4-5", 200_000),
        ("openai:gpt-4o", 128_000),
        ("openai:gpt-5", 400_000),
        ("google:gemini-2.5-flash", 1_048_576),
        ("openai:unheard-of", DEFAULT_WINDOW_TOKENS),
        ("ollama:llama3", DEFAULT_WINDOW_TOKENS),
        ("scripted:play", DEFAULT_WINDOW_TOKENS),
    ],
)
async def test_window_is_the_models_if_it_is_known(model: str, window: int) -> None:
    assert await window_of(definition(model)) == window


async def test_window_of_a_server_that_nobody_knows_is_the_default() -> None:
    ref = ModelRef(provider="openai-compatible", model="gpt-4o", base_url="http://localhost:8000/v1")

    assert await window_of(definition(ref)) == DEFAULT_WINDOW_TOKENS


async def test_window_that_was_configured_wins() -> None:
    assert await window_of(definition("anthropic:claude-sonnet-4-5", window_tokens=5000)) == 5000
