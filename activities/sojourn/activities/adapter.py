"""The model client for real providers, over pydantic-ai's model classes.

This module, and `answer`, `classify`, `provider` and `translation` behind it, are the only ones that know pydantic-ai.
It is loaded with the first call, so a worker that serves scripted models alone needs neither it nor a provider's SDK.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib import import_module

from sojourn.activities.model import Answer, Delta, ModelCallError, ModelRequest
from sojourn.activities.provider import ModelPool, hanging_up, secret_of


class PydanticAiClient:
    """Answers model requests through Anthropic, Google, OpenAI, Ollama or any server that speaks OpenAI's protocol.

    One per worker process: calls share its HTTP connections. Close it with `aclose` when the worker ends.
    """

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Make a client. Opens no connection and imports no SDK.

        Args:
            environment: Where API keys are looked up at each call; ``None`` is the process's environment.
        """
        self._environment = os.environ if environment is None else environment
        self._pool = ModelPool()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """Stream one answer. A failure is not retried here: that is the workflow's, and visible.

        Raises:
            ModelCallError: The call failed; classified.
        """
        secret = secret_of(request.model, self._environment)
        try:
            async with aclosing(_read_ahead(self._ask(request, secret))) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ModelCallError:
            raise
        except Exception as error:
            from sojourn.activities.classify import classify

            failure = classify(error, provider=request.model.provider, secret=secret)
            # Without its cause: a failure's causes go to the workflow's history, and theirs may quote the key.
            raise ModelCallError(failure) from None

    async def _ask(self, request: ModelRequest, secret: str | None) -> AsyncGenerator[Delta | Answer, None]:
        model = await self._pool.model(request.model, secret)
        await _load("sojourn.activities.answer")
        from sojourn.activities.answer import exchange

        async with aclosing(exchange(model, request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close all connections to providers."""
        await self._pool.aclose()


async def _read_ahead(chunks: AsyncGenerator[Delta | Answer, None]) -> AsyncGenerator[Delta | Answer, None]:
    """Read the provider's stream in a task of its own, and end that task with this generator.

    So it does not matter which task closes the generator, or when, and the connection is closed before that returns.
    """
    queue: asyncio.Queue[Delta | Answer | None] = asyncio.Queue()
    reading = asyncio.create_task(_read(chunks, queue))
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(chunks: AsyncGenerator[Delta | Answer, None], queue: asyncio.Queue[Delta | Answer | None]) -> None:
    try:
        async with hanging_up(), aclosing(chunks):
            async for chunk in chunks:
                queue.put_nowait(chunk)
    finally:
        queue.put_nowait(None)


async def _load(module: str) -> None:
    if module not in sys.modules:
        await asyncio.to_thread(import_module, module)
