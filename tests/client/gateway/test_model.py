from typing import Any

import anthropic
import pytest

from sojourn.gateway import GatewayOptions
from sojourn.gateway.wire.model import ModelChoice, ModelNames
from sojourn.types import InvalidRequestError, ModelRef

LOCAL = ModelRef(provider="openai-compatible", model="qwen3", base_url="http://localhost:8000/v1", api_key="env:KEY")
NAMES = ModelNames({"local": LOCAL})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("anthropic:claude-opus-5-5", "claude-opus-5-5"),
        ("openai:o3", "o3"),
        ("openai:odd", "openai:odd"),
        ("scripted:play", "scripted:play"),
        ("ollama:gpt-oss", "ollama:gpt-oss"),
        ("local", "local"),
    ],
)
def test_model_is_called_by_its_shortest_name(given: str, shown: str) -> None:
    ref = NAMES.ref(ModelChoice(id=given), path="model")

    assert NAMES.name(ref) == shown
    assert NAMES.ref(ModelChoice(id=shown), path="model") == ref


def test_caller_cannot_choose_an_address() -> None:
    with pytest.raises(InvalidRequestError, match="operator"):
        NAMES.ref(ModelChoice(id="openai-compatible:qwen3"), path="model")

    assert NAMES.ref(ModelChoice(id="local"), path="model").base_url == LOCAL.base_url


def test_model_of_the_same_name_keeps_its_address() -> None:
    bare = ModelNames({})

    assert bare.ref(ModelChoice(id="openai-compatible:qwen3"), path="model", current=LOCAL) == LOCAL


async def test_models_are_listed_in_pages(gateway: Any) -> None:
    models = [model async for model in gateway.sdk.models.list(limit=7)]

    names = [model.id for model in models]
    assert len(set(names)) == len(names) > 7
    assert "claude-opus-5-5" in names
    assert not [name for name in names if name.startswith("scripted")]
    assert (await gateway.sdk.models.retrieve("claude-opus-5-5")).display_name == "Claude Opus 5.5"
    with pytest.raises(anthropic.NotFoundError):
        await gateway.sdk.models.retrieve("nothing")
    assert (await gateway.http.get("/v1/models?after_id=nothing")).status_code == 400


async def test_operators_models_come_first(serve: Any) -> None:
    async with serve(GatewayOptions(models={"local": LOCAL})) as gateway:
        first = (await gateway.sdk.models.list(limit=1)).data[0]
        agent = await gateway.sdk.beta.agents.create(name="actor", model="local")

        assert first.id == agent.model.id == "local"
        stored = await gateway.stage.runtime.get_agent(agent.id)
        assert stored.definition.model == LOCAL
