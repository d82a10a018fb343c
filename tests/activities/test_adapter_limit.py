"""Each provider's way of saying that a conversation is too long for the model."""

import pytest

from sojourn.activities.adapter import PydanticAiClient
from sojourn.activities.conversation import UserTurn
from sojourn.activities.model import ModelCallError, ModelRequest
from sojourn.testing.provider import FakeProvider, Fault
from sojourn.types.content import TextBlock
from sojourn.types.model import Provider

TOO_LONG: dict[Provider, Fault] = {
    "anthropic": Fault(400, "prompt is too long: 213462 tokens > 200000 maximum"),
    "google": Fault(400, "The input token count (1196265) exceeds the maximum number of tokens allowed (1048576)."),
    "openai": Fault(
        400,
        body={
            "error": {
                "message": "Your input exceeds the context window of this model.",
                "type": "invalid_request_error",
                "param": "input",
                "code": "context_length_exceeded",
            }
        },
    ),
    "openai-compatible": Fault(400, "This model's maximum context length is 8192 tokens. However, you requested 9000."),
}


@pytest.mark.parametrize("provider", TOO_LONG)
async def test_a_conversation_that_is_too_long_is_told_as_such(
    client: PydanticAiClient, server: FakeProvider, provider: Provider
) -> None:
    server.add(TOO_LONG[provider])

    request = ModelRequest(server.ref(provider), None, (UserTurn((TextBlock(text="hi"),)),), (), step=0)

    with pytest.raises(ModelCallError) as error:
        [chunk async for chunk in client.stream(request)]

    assert (error.value.failure.kind, error.value.failure.too_long) == ("fatal", True)
