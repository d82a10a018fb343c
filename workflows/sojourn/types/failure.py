"""How a model call failed, told by the activity to the workflow."""

from datetime import timedelta
from typing import Annotated, Literal

from sojourn.types.wire import Omitted, Wire

FailureKind = Literal["retryable", "rate_limited", "refused", "fatal"]


class ModelFailure(Wire):
    """One classified failure. Classified once, in the model adapter; the workflow only obeys."""

    kind: FailureKind
    message: str
    """One line, without secrets."""
    provider: str = ""
    retry_after: Annotated[timedelta | None, Omitted] = None
    """The provider's own wish, for ``rate_limited`` and ``retryable``."""
    too_long: Annotated[bool, Omitted] = False
    """The conversation does not fit the model's window. Goes with ``fatal``, which an older workflow obeys."""
    error_class: Annotated[str | None, Omitted] = None
    """Class in `sojourn.types` for the caller; ``None`` means `ProviderError`."""

    @property
    def may_retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.kind in ("retryable", "rate_limited")
