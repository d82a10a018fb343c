import pytest

from sojourn.types.error import InvalidRequestError, ModelNotFoundError
from sojourn.types.model import PROVIDERS, ModelRef, ModelSettings
from sojourn.types.wire import parse


@pytest.mark.parametrize(
    ("text", "provider", "model"),
    [
        ("claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
        ("Claude-Opus", "anthropic", "Claude-Opus"),
        ("gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("gpt-5", "openai", "gpt-5"),
        ("chatgpt-4o-latest", "openai", "chatgpt-4o-latest"),
        ("o1", "openai", "o1"),
        ("o3-mini", "openai", "o3-mini"),
        ("o4-mini", "openai", "o4-mini"),
        ("llama3.2", "ollama", "llama3.2"),
        ("llama3:8b", "ollama", "llama3:8b"),
        ("mistral-nemo", "ollama", "mistral-nemo"),
        ("deepseek-r1", "ollama", "deepseek-r1"),
        ("qwen3", "ollama", "qwen3"),
        ("anthropic:anything", "anthropic", "anything"),
        ("gemini:gemini-pro", "google", "gemini-pro"),
        ("OpenAI:gpt-5", "openai", "gpt-5"),
        ("ollama:gpt-oss:20b", "ollama", "gpt-oss:20b"),
        ("scripted:demo", "scripted", "demo"),
    ],
)
def test_provider_is_told_from_the_text(text: str, provider: str, model: str) -> None:
    found = ModelRef.of(text)

    assert (found.provider, found.model) == (provider, model)


@pytest.mark.parametrize("text", ["", ":", "openai:", "scripted:", "unheard-of", "nobody:gpt"])
def test_text_without_a_provider_is_refused(text: str) -> None:
    with pytest.raises(ModelNotFoundError) as error:
        ModelRef.of(text)

    assert "openai-compatible" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("provider", sorted(set(PROVIDERS) - {"openai-compatible"}))
def test_reference_survives_its_own_text(provider: str) -> None:
    found = ModelRef.of(f"{provider}:some-model")

    assert found.provider == provider
    assert ModelRef.of(str(found)) == found


def test_server_of_ones_own_needs_its_address() -> None:
    with pytest.raises(InvalidRequestError, match="base_url"):
        parse(ModelRef, {"provider": "openai-compatible", "model": "local"})


def test_server_of_ones_own_with_its_address_is_taken() -> None:
    found: ModelRef = parse(
        ModelRef, {"provider": "openai-compatible", "model": "m", "base_url": "http://localhost:8000/v1"}
    )

    assert found.base_url == "http://localhost:8000/v1"


@pytest.mark.parametrize("secret", ["sk-1234567890", "env:", "env:1X", "env:MY KEY", "file:/etc/key", "env:A\nsk-1"])
def test_secret_in_a_definition_is_refused(secret: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(ModelRef, {"provider": "openai", "model": "gpt-5", "api_key": secret})

    assert error.value.param == "api_key"
    assert "sk-1" not in str(error.value)


def test_secret_by_reference_is_taken_and_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")

    found: ModelRef = parse(ModelRef, {"provider": "openai", "model": "gpt-5", "api_key": "env:MY_KEY"})

    assert found.api_key == "env:MY_KEY"
    assert "sk-secret" not in found.model_dump_json()
    assert "sk-secret" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"), [("max_tokens", 0), ("temperature", 2.1), ("temperature", -0.1), ("top_p", 1.1), ("effort", "x")]
)
def test_setting_out_of_bounds_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(ModelSettings, {name: value})

    assert error.value.param == name


def test_settings_that_were_not_made_stay_off_the_wire() -> None:
    assert ModelRef.of("scripted:echo").model_dump(mode="json", exclude_none=True) == {
        "provider": "scripted",
        "model": "echo",
    }
