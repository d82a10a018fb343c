import subprocess
import sys

import pytest

from sojourn.activities.adapter import PydanticAiClient
from sojourn.activities.conversation import UserTurn
from sojourn.activities.model import ModelCallError, ModelRequest
from sojourn.activities.provider import ModelPool, secret_of
from sojourn.testing.protocol import Reply, Text
from sojourn.testing.provider import FakeProvider
from sojourn.types.content import TextBlock
from sojourn.types.failure import ModelFailure
from sojourn.types.model import ModelRef, Provider


def failure_of(ref: ModelRef, environment: dict[str, str]) -> ModelFailure:
    with pytest.raises(ModelCallError) as error:
        secret_of(ref, environment)
    return error.value.failure


@pytest.mark.parametrize(
    ("provider", "names"),
    [("anthropic", "ANTHROPIC_API_KEY"), ("openai", "OPENAI_API_KEY"), ("google", "GOOGLE_API_KEY or GEMINI_API_KEY")],
)
def test_a_missing_key_names_its_variable(provider: Provider, names: str) -> None:
    failure = failure_of(ModelRef(provider=provider, model="m"), {"OTHER": "value"})

    assert failure.kind == "fatal"
    assert f"has no {names};" in failure.message


def test_a_missing_key_by_reference_names_its_variable_and_not_the_usual_one() -> None:
    ref = ModelRef(provider="openai", model="m", api_key="env:TEAM_API_KEY")

    failure = failure_of(ref, {"OPENAI_API_KEY": "sk-usual", "TEAM_API_KEY": ""})

    assert "has no TEAM_API_KEY;" in failure.message
    assert "sk-usual" not in failure.message


def test_a_variable_that_is_no_api_key_is_kept_from_definitions() -> None:
    ref = ModelRef(provider="openai-compatible", model="m", base_url="http://elsewhere/v1", api_key="env:DATABASE_URL")

    with pytest.raises(ModelCallError) as error:
        secret_of(ref, {"DATABASE_URL": "postgres://user:hunter2@db"})

    assert error.value.failure.kind == "fatal"
    assert "DATABASE_URL" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_an_operator_may_admit_other_variables() -> None:
    ref = ModelRef(provider="openai", model="m", api_key="env:TEAM_TOKEN")

    assert secret_of(ref, {"TEAM_TOKEN": "t", "SOJOURN_KEY_NAMES": "*_API_KEY, TEAM_*"}) == "t"


def test_a_key_by_reference_wins_over_the_usual_one() -> None:
    ref = ModelRef(provider="openai", model="m", api_key="env:TEAM_API_KEY")

    assert secret_of(ref, {"OPENAI_API_KEY": "usual", "TEAM_API_KEY": "team"}) == "team"


def test_google_takes_either_variable() -> None:
    assert secret_of(ModelRef(provider="google", model="m"), {"GEMINI_API_KEY": "old"}) == "old"


@pytest.mark.parametrize("provider", ["ollama", "openai-compatible"])
def test_local_servers_need_no_key(provider: Provider) -> None:
    ref = ModelRef(provider=provider, model="m", base_url="http://localhost:1/v1")

    assert secret_of(ref, {"OPENAI_API_KEY": "not for them"}) is None


async def test_the_openai_key_never_goes_to_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    client = PydanticAiClient()
    async with FakeProvider(Reply([Text("a")]), Reply([Text("b")])) as server:
        for provider in ("ollama", "openai-compatible"):
            turn = UserTurn((TextBlock(text="hi"),))
            request = ModelRequest(server.ref(provider), None, [turn], [], step=0)
            assert [chunk async for chunk in client.stream(request)]
    await client.aclose()

    assert "sk-openai" not in str([request.headers for request in server.requests])


async def test_the_key_is_looked_up_at_every_call() -> None:
    environment = {"TEAM_API_KEY": "first"}
    client = PydanticAiClient(environment=environment)
    async with FakeProvider(Reply([Text("a")]), Reply([Text("b")])) as server:
        ref = server.ref("anthropic", api_key="env:TEAM_API_KEY")
        request = ModelRequest(ref, None, [UserTurn((TextBlock(text="hi"),))], [], step=0)
        assert [chunk async for chunk in client.stream(request)]
        environment["TEAM_API_KEY"] = "second"
        assert [chunk async for chunk in client.stream(request)]
    await client.aclose()

    assert ["first" in str(request.headers) for request in server.requests] == [True, False]
    assert ["second" in str(request.headers) for request in server.requests] == [False, True]


@pytest.mark.parametrize(
    ("provider", "module", "extra"),
    [
        ("anthropic", "pydantic_ai.models.anthropic", "anthropic"),
        ("google", "pydantic_ai.models.google", "google"),
        ("openai", "pydantic_ai.models.openai", "openai"),
        ("ollama", "pydantic_ai.models.ollama", "openai"),
    ],
)
async def test_a_missing_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, module: str, extra: str
) -> None:
    # What the import system itself keeps for a module that must not be found.
    monkeypatch.setitem(sys.modules, module, None)
    pool = ModelPool()

    with pytest.raises(ModelCallError) as error:
        await pool.model(ModelRef(provider=provider, model="m"), "key")
    await pool.aclose()

    assert error.value.failure.kind == "fatal"
    assert error.value.failure.error_class == "ModelNotFoundError"
    assert f'pip install "sojourn[{extra}]"' in error.value.failure.message


async def test_only_anthropic_itself_is_asked_to_cache() -> None:
    pool = ModelPool()

    own = await pool.model(ModelRef(provider="anthropic", model="claude-sonnet-4-6"), "key")
    other = await pool.model(ModelRef(provider="anthropic", model="m", base_url="http://localhost:1"), "key")
    await pool.aclose()

    assert own.settings == {"cache": True}
    assert other.settings is None


async def test_ollama_is_at_home_by_default() -> None:
    pool = ModelPool()

    model = await pool.model(ModelRef(provider="ollama", model="llama3.2"), None)
    await pool.aclose()

    assert model.base_url == "http://localhost:11434/v1/"


async def test_the_sdk_waits_five_seconds_for_a_connection_and_does_not_cut_an_answer() -> None:
    from pydantic_ai.models.anthropic import AnthropicModel

    pool = ModelPool()
    model = await pool.model(ModelRef(provider="anthropic", model="m"), "key")
    await pool.aclose()

    assert isinstance(model, AnthropicModel)
    timeout = model.client.timeout
    assert (getattr(timeout, "connect", None), getattr(timeout, "read", None)) == (5, 1200)


def test_a_client_loads_no_sdk_until_it_is_used() -> None:
    code = (
        "import sys; from sojourn.activities.adapter import PydanticAiClient; PydanticAiClient();"
        "loaded = {'pydantic_ai', 'openai', 'anthropic', 'google.genai', 'httpx2'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


async def test_a_base_url_that_is_none_is_fatal() -> None:
    pool = ModelPool()

    with pytest.raises(ModelCallError, match="no client can be made for 'openai-compatible:m'") as error:
        await pool.model(ModelRef(provider="openai-compatible", model="m", base_url="http://["), None)

    assert error.value.failure.kind == "fatal"
