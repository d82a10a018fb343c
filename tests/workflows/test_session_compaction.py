"""Compaction of the model's context: when it happens, what it leaves, and what goes wrong with it."""

from typing import TYPE_CHECKING

from sojourn.activities.model import ModelRequest
from sojourn.testing import ScriptedTurn
from sojourn.types import Compaction, ContextCompacted, Usage

if TYPE_CHECKING:
    from tests.conftest import PlayedModel, Stage

SMALL = Compaction(window_tokens=1000)
FULL = Usage(input_tokens=800, output_tokens=50)


async def test_a_conversation_that_fills_the_window_is_compacted_before_the_next_turn(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(ScriptedTurn(text="one " * 200), ScriptedTurn(text="two", usage=FULL), ScriptedTurn(text="three"))
    probe = await stage.session(script=model, compaction=SMALL)

    await probe.session.send_and_wait("first")
    await probe.session.send_and_wait("second")
    await probe.session.send_and_wait("third")
    await probe.idle(3)

    print([e.type for e in probe.log])
    print(model.context())
    assert len(probe.of(ContextCompacted)) == 1
