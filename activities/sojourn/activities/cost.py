"""What an answer of a model cost."""

import asyncio

from sojourn.activities.model import Answer
from sojourn.types.model import ModelRef
from sojourn.types.price import list_cost


async def cost_of(model: ModelRef, answer: Answer) -> int | None:
    """In millionths of a US cent; ``None`` if no price is known."""
    if answer.cost_microcents is not None or model.provider == "scripted":
        return answer.cost_microcents
    # In a thread, because the first look-up imports the table of all models.
    return await asyncio.to_thread(list_cost, model, answer.usage)
