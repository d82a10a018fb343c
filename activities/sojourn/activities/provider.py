"""From a model reference to a pydantic-ai model, and the HTTP connections behind it.

Each provider's SDK is imported when its first call is made, in a thread: such an import takes up to two seconds, in
which the event loop must go on sending heartbeats.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from sojourn.activities.model import ModelCallError
from sojourn.types.error import ModelNotFoundError
from sojourn.types.failure import ModelFailure
from sojourn.types.model import ModelRef, Provider

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response
    from pydantic_ai.models import Model

KEY_NAMES = "SOJOURN_KEY_NAMES"
"""Worker variable: patterns, by comma, of the variables that a definition's ``api_key`` may name."""

OLLAMA_URL = "http://localhost:11434/v1"

_CONNECT_SECONDS = 5
# The longest silence. The model call's own timeout ends a call; Google's SDK also asks its server for this limit.
_READ_SECONDS = 1200
# Google's SDK takes 40 ms to set up, so models are kept; without a bound, rotated keys would be kept with them.
_MAX_MODELS = 256
# What the OpenAI SDK must be given where no key is needed: without one it would take OPENAI_API_KEY, and send it.
_NO_KEY = "api-key-not-set"

_USUAL_KEYS: dict[Provider, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "openai": ("OPENAI_API_KEY",),
}


class _Sdk(NamedTuple):
    module: str
    extra: str


_SDKS: dict[Provider, _Sdk] = {
    "anthropic": _Sdk("pydantic_ai.models.anthropic", "anthropic"),
    "google": _Sdk("pydantic_ai.models.google", "google"),
    "ollama": _Sdk("pydantic_ai.models.ollama", "openai"),
    "openai": _Sdk("pydantic_ai.models.openai", "openai"),
    "openai-compatible": _Sdk("pydantic_ai.models.openai", "openai"),
}


class _Endpoint(NamedTuple):
    """What one HTTP client is kept for. Holds the key's name, never the key."""

    provider: Provider
    base_url: str | None
    api_key: str | None


def _fatal(ref: ModelRef, message: str, *, error_class: str | None = None) -> ModelCallError:
    return ModelCallError(ModelFailure(kind="fatal", message=message, provider=ref.provider, error_class=error_class))


def secret_of(ref: ModelRef, environment: Mapping[str, str]) -> str | None:
    """The API key of a call, from the worker's environment; ``None`` where the provider needs none.

    Raises:
        ModelCallError: Fatal; the variable is not set. The message names it.
    """
    names = _USUAL_KEYS.get(ref.provider, ())
    if ref.api_key is not None:
        names = (_admitted(ref, ref.api_key.removeprefix("env:"), environment),)
    found = next((environment[name] for name in names if environment.get(name)), None)
    if found is None and names:
        raise _fatal(
            ref,
            f"no API key for {str(ref)!r}: the worker's environment has no {' or '.join(names)};"
            " set it and restart the worker, or name another variable in the model's api_key",
        )
    return found


def _admitted(ref: ModelRef, name: str, environment: Mapping[str, str]) -> str:
    """The name, if definitions may refer to it: whoever writes one could otherwise send any variable to any server."""
    patterns = [pattern.strip() for pattern in environment.get(KEY_NAMES, "*_API_KEY").split(",")]
    if not any(fnmatchcase(name, pattern) for pattern in patterns):
        raise _fatal(
            ref,
            f"the model's api_key names {name}, which the worker keeps to itself;"
            f" rename it to match {' or '.join(patterns)}, or widen {KEY_NAMES} on the worker",
        )
    return name


_responses: ContextVar[list["Response"] | None] = ContextVar("responses", default=None)


@asynccontextmanager
async def hanging_up() -> AsyncIterator[None]:
    """Close, on leaving, every HTTP response that was opened inside, in this task.

    The SDKs close theirs too, but Google's only when its garbage is collected if the stream is left between two
    chunks: until then the provider would go on writing, and charging.
    """
    opened: list[Response] = []
    token = _responses.set(opened)
    try:
        yield
    finally:
        _responses.reset(token)
        for response in opened:
            await response.aclose()


async def _remember(response: "Response") -> None:
    if (opened := _responses.get()) is not None:
        opened.append(response)


class ModelPool:
    """The models of one worker process. Calls to one provider, base URL and key reference share their connections."""

    def __init__(self) -> None:
        self._clients: dict[_Endpoint, AsyncClient] = {}
        self._models: dict[tuple[_Endpoint, str, str | None], Model] = {}

    async def model(self, ref: ModelRef, secret: str | None) -> "Model":
        """The pydantic-ai model for a reference.

        Raises:
            ModelCallError: Fatal; there is no such provider here, its extra is not installed, or the base URL is none.
        """
        sdk = _SDKS.get(ref.provider)
        if sdk is None:
            raise _fatal(
                ref,
                f"this worker reaches no provider for {str(ref)!r}; a scripted model needs a worker with its script",
                error_class=ModelNotFoundError.__name__,
            )
        try:
            if sdk.module not in sys.modules:
                await asyncio.to_thread(import_module, sdk.module)
            return self._built(ref, secret)
        except ImportError:
            raise _fatal(
                ref,
                f"provider {ref.provider!r} is not installed on the worker;"
                f' run pip install "sojourn[{sdk.extra}]" and restart it',
                error_class=ModelNotFoundError.__name__,
            ) from None
        except ValueError as error:
            raise _fatal(ref, f"no client can be made for {str(ref)!r} at {ref.base_url!r}: {error}") from None

    def _built(self, ref: ModelRef, secret: str | None) -> "Model":
        endpoint = _Endpoint(ref.provider, ref.base_url, ref.api_key)
        key = (endpoint, ref.model, secret)
        if key not in self._models:
            if len(self._models) >= _MAX_MODELS:
                self._models.clear()
            self._models[key] = _BUILDERS[ref.provider](ref, secret, self._client(endpoint))
        return self._models[key]

    def _client(self, endpoint: _Endpoint) -> "AsyncClient":
        from httpx2 import Timeout
        from pydantic_ai.models import create_async_httpx2_client

        if endpoint not in self._clients:
            timeout = Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
            client = self._clients[endpoint] = create_async_httpx2_client(timeout=timeout)
            client.event_hooks["response"].append(_remember)
        return self._clients[endpoint]

    async def aclose(self) -> None:
        """Close all connections. Calls in flight fail; later ones open new connections."""
        clients = list(self._clients.values())
        self._clients.clear()
        self._models.clear()
        for client in clients:
            await client.aclose()


def _anthropic(ref: ModelRef, secret: str | None, client: "AsyncClient") -> "Model":
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.settings import ModelSettings

    # A session sends its whole conversation again at every step: uncached, that is ten times the price. Servers that
    # only imitate the API may refuse the cache marks, so another base URL goes without.
    settings = ModelSettings(cache=True) if ref.base_url is None else None
    provider = AnthropicProvider(api_key=secret, base_url=ref.base_url, http_client=client)
    return AnthropicModel(ref.model, provider=provider, settings=settings)


def _google(ref: ModelRef, secret: str | None, client: "AsyncClient") -> "Model":
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    return GoogleModel(ref.model, provider=GoogleProvider(api_key=secret, base_url=ref.base_url, http_client=client))


def _ollama(ref: ModelRef, secret: str | None, client: "AsyncClient") -> "Model":
    from pydantic_ai.models.ollama import OllamaModel
    from pydantic_ai.providers.ollama import OllamaProvider

    provider = OllamaProvider(base_url=ref.base_url or OLLAMA_URL, api_key=secret or _NO_KEY, http_client=client)
    return OllamaModel(ref.model, provider=provider)


def _openai(ref: ModelRef, secret: str | None, client: "AsyncClient") -> "Model":
    """OpenAI itself, or a proxy to it, by the Responses API.

    Chat Completions hides the reasoning of OpenAI's models, so it would be lost between the steps of a turn. Nothing
    is stored at OpenAI: reasoning travels encrypted in the parts, and the conversation's one store is the session log.
    """
    from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(api_key=secret, base_url=ref.base_url, http_client=client)
    return OpenAIResponsesModel(ref.model, provider=provider, settings=OpenAIResponsesModelSettings(openai_store=False))


def _openai_compatible(ref: ModelRef, secret: str | None, client: "AsyncClient") -> "Model":
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    base_url = ref.base_url or ""
    # The name decides who gets provider state back, so two servers must not share one.
    name = f"openai-compatible:{urlsplit(base_url).netloc.rpartition('@')[2]}"
    provider = OpenAICompatibleProvider(name, base_url=base_url, api_key=secret or _NO_KEY, http_client=client)
    return OpenAIChatModel(ref.model, provider=provider)


_BUILDERS = {
    "anthropic": _anthropic,
    "google": _google,
    "ollama": _ollama,
    "openai": _openai,
    "openai-compatible": _openai_compatible,
}
