"""A client of the providers, and a server that speaks like all of them."""

from collections.abc import AsyncIterator

import pytest

from sojourn.activities.adapter import PydanticAiClient
from sojourn.testing.provider import FakeProvider

SECRET = "sk-test-0123456789abcdef"
ENVIRONMENT = {"ANTHROPIC_API_KEY": SECRET, "GEMINI_API_KEY": SECRET, "OPENAI_API_KEY": SECRET, "GATEWAY_KEY": SECRET}


@pytest.fixture
async def client() -> AsyncIterator[PydanticAiClient]:
    client = PydanticAiClient(environment=ENVIRONMENT)
    yield client
    await client.aclose()


@pytest.fixture
async def server() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as server:
        yield server
