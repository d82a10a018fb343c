"""Which client answers for which provider."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from sojourn.activities.adapter import PydanticAiClient
from sojourn.activities.model import Answer, Delta, ModelClient, ModelRequest


class ModelRouter:
    """Sends ``scripted`` models to the scripts and all others to their providers."""

    def __init__(self, *, scripted: ModelClient, providers: PydanticAiClient | None = None) -> None:
        self._scripted = scripted
        self._providers = providers or PydanticAiClient()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """See `ModelClient.stream`."""
        client: ModelClient = self._scripted if request.model.provider == "scripted" else self._providers
        async with aclosing(client.stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close all connections to providers."""
        await self._providers.aclose()
