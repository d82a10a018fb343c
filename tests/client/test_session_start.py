import asyncio
from typing import Any

import pytest

from sojourn.types import SessionExistsError, UserMessage, text_of


async def test_second_start_under_an_id_is_refused_and_sends_nothing(stage: Any) -> None:
    agent = await stage.agent(model="scripted:echo")
    first = [UserMessage.text("Hello")]
    session = await stage.runtime.start_session(agent, session_id="mine", initial_events=first)

    with pytest.raises(SessionExistsError):
        await stage.runtime.start_session(agent, session_id="mine", initial_events=[UserMessage.text("Again")])

    log = await stage.runtime.list_events(session)
    assert [text_of(event.content) for event in log if isinstance(event, UserMessage)] == ["Hello"]


async def test_one_of_several_starts_at_once_makes_the_session(stage: Any) -> None:
    agent = await stage.agent(model="scripted:echo")

    def start() -> Any:
        first = [UserMessage.text("Hello")]
        return stage.runtime.start_session(agent, session_id="mine", initial_events=first)

    done = await asyncio.gather(*(start() for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(each, SessionExistsError) for each in done) == 7
    log = await stage.runtime.list_events("mine")
    assert len([event for event in log if isinstance(event, UserMessage)]) == 1
