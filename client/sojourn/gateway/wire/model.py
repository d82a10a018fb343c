"""Models: how agents name them, and the names that an operator gives."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sojourn.types import InvalidRequestError, ModelNotFoundError, ModelRef, ModelSettings
from sojourn.types.wire import Wire

EffortLevel = Literal["low", "medium", "high", "xhigh", "max"]


class Effort(Wire):
    """How much the model may think before it answers."""

    type: EffortLevel


def _effort(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class ModelChoice(Wire):
    """A model and how to use it."""

    id: str = Field(min_length=1, max_length=256)
    effort: Annotated[Effort | None, BeforeValidator(_effort, json_schema_input_type=EffortLevel | Effort | None)] = (
        None
    )
    speed: Literal["standard"] | None = None
    """`fast` is refused: no other provider has it."""
    inference_geo: None = None
    """Where a model runs is its provider's to say."""


def _choice(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


ModelField = Annotated[ModelChoice, BeforeValidator(_choice, json_schema_input_type=str | ModelChoice)]
"""A model's name, or an object."""


class ModelConfig(Wire):
    """A model as replies show it."""

    id: str
    effort: Effort | None
    """``None`` leaves it to the provider."""
    speed: Literal["standard"] = "standard"
    inference_geo: None = None


class ModelNames:
    """What models are called over the wire. An operator's own names come first, then `ModelRef` as text.

    Args:
        configured: Models by the operator's names. Only so can a caller reach an address of the operator's choosing.
    """

    def __init__(self, configured: Mapping[str, ModelRef]) -> None:
        self._configured = configured

    def ref(self, choice: ModelChoice, *, path: str, current: ModelRef | None = None) -> ModelRef:
        """The model that is meant.

        Args:
            choice: What the client wrote.
            path: Where it wrote it.
            current: What is there now: a model of the same name keeps its address, and its effort if none is given.

        Raises:
            InvalidRequestError: No provider can be told from the name.
        """
        if current is not None and self.name(current) == choice.id:
            settings = current.settings or ModelSettings()
            found = current
        else:
            found = self._find(choice.id, path)
            settings = found.settings or ModelSettings()
        if choice.effort is not None:
            settings = settings.model_copy(update={"effort": choice.effort.type})
        return found.model_copy(update={"settings": None if settings == ModelSettings() else settings})

    def name(self, ref: ModelRef) -> str:
        """The shortest name that means the model."""
        for name, each in self._configured.items():
            if _place(each) == _place(ref):
                return name
        try:
            bare = ModelRef.of(ref.model)
        except ModelNotFoundError:
            return str(ref)
        return ref.model if _place(bare) == _place(ref) else str(ref)

    def config(self, ref: ModelRef) -> ModelConfig:
        """The model as replies show it."""
        effort = ref.settings.effort if ref.settings else None
        return ModelConfig(id=self.name(ref), effort=Effort(type=effort) if effort else None)

    def _find(self, name: str, path: str) -> ModelRef:
        if name in self._configured:
            return self._configured[name]
        try:
            return ModelRef.of(name)
        except ModelNotFoundError as error:
            text = str(error).removeprefix("model: ").removeprefix("body: ")
            if "base_url" in text:
                text = (
                    "models of your own servers are named by the operator (`sojourn gateway --model`); see /v1/models"
                )
            raise InvalidRequestError(f"{path}: {text}", param=path) from None


def _place(ref: ModelRef) -> tuple[str, str, str | None]:
    return ref.provider, ref.model, ref.base_url
