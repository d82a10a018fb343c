"""Which model answers, and where it is reached."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from sojourn.types.error import ModelNotFoundError
from sojourn.types.wire import Omitted, Wire

Provider = Literal["anthropic", "google", "ollama", "openai", "openai-compatible", "scripted"]

PROVIDERS: tuple[str, ...] = get_args(Provider)

_ALIASES = {"gemini": "google", "openai_compatible": "openai-compatible"}

# The first match wins; the prefixes are those of adk-managed (seed 003) and of today's model names.
_PREFIXES = {
    "claude": "anthropic",
    "gemini": "google",
    "gpt": "openai",
    "chatgpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "llama": "ollama",
    "mistral": "ollama",
    "deepseek": "ollama",
    "qwen": "ollama",
}


class ModelSettings(Wire):
    """Sampling and output limits; what is left out is the provider's own default."""

    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    """How much the model may think before it answers, where it can."""


class ModelRef(Wire):
    """A model by provider and name.

    Built from ``"provider:model"``, from a bare name whose prefix tells the provider, or from its fields.
    ``openai-compatible`` with a ``base_url`` reaches any server that speaks OpenAI's chat protocol.
    """

    provider: Provider
    model: str = Field(min_length=1, max_length=256)
    base_url: Annotated[str | None, Field(max_length=2048)] = None
    api_key: Annotated[str | None, Field(pattern=r"^env:[A-Za-z_][A-Za-z0-9_]*$")] = None
    """A reference, ``env:NAME``, to a variable on the worker. The secret itself never enters the definition."""
    settings: Annotated[ModelSettings | None, Omitted] = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return cls._split(value) if isinstance(value, str) else value

    @staticmethod
    def _split(text: str) -> dict[str, str]:
        head, colon, tail = text.partition(":")
        provider = _ALIASES.get(head.lower(), head.lower())
        if colon and provider in PROVIDERS and tail:
            return {"provider": provider, "model": tail}
        inferred = next((to for prefix, to in _PREFIXES.items() if text.lower().startswith(prefix)), None)
        if inferred is None:
            raise ValueError(f"no provider known for model {text!r}; write it as 'provider:model' with {PROVIDERS}")
        return {"provider": inferred, "model": text}

    @model_validator(mode="after")
    def _reachable(self) -> "ModelRef":
        if self.provider == "openai-compatible" and self.base_url is None:
            raise ValueError("provider 'openai-compatible' needs a base_url such as 'http://localhost:8000/v1'")
        return self

    @classmethod
    def of(cls, text: str) -> "ModelRef":
        """Read ``"provider:model"`` or a bare name.

        Raises:
            ModelNotFoundError: The provider cannot be told from the name.
        """
        try:
            return cls.model_validate(text)
        except ValidationError as error:
            raise ModelNotFoundError.from_validation(error, whole="model") from None

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}"
