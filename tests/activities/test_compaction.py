"""The activity `compact_context`, without a server."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from sojourn.activities import Toolbox
from sojourn.activities.catalogue import Catalogue
from sojourn.activities.compaction import ContextCompaction
from sojourn.activities.conversation import AssistantTurn, Conversation, SystemTurn, UserTurn
from sojourn.activities.model import (
    Answer,
    AnswerText,
    AnswerThinking,
    Delta,
    ModelCallError,
    ModelClient,
    ModelRequest,
)
from sojourn.activities.session_log import SessionLogs
from sojourn.testing import ScriptedFailure, ScriptedModel, ScriptedTurn
from sojourn.types.agent import AgentDefinition, AgentVersion, Compaction
from sojourn.types.content import TextBlock, text_of
from sojourn.types.error import CheckpointError
from sojourn.types.failure import ModelFailure
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.model import ModelRef
from sojourn.types.record import CallModelInput, CompactContextInput, CompactContextResult, FinishReason, TextPart
from sojourn.types.session import Owner, SessionInput
from sojourn.types.usage import Usage

STEP = EventId("sevt_step")
SOON = timedelta(seconds=45)


class OneLog:
    """The log of one session, folded up to the compaction. Stands in for `SessionLogs`."""

    def __init__(self, start: SessionInput, conversation: Conversation) -> None:
        self.start = start
        self.conversation = conversation
        self.missing: Exception | None = None

    def get(self, workflow_id: str) -> "OneLog":
        return self

    async def context(
        self, run_id: str, record: CallModelInput | CompactContextInput
    ) -> tuple[SessionInput, Conversation]:
        if self.missing is not None:
            raise self.missing
        return self.start, self.conversation


class Listener:
    """A model that answers and remembers what it was asked; it takes so many characters and no more."""

    def __init__(self, text: str = "short", *, takes: int = 10**9, finish: FinishReason = "stop") -> None:
        self.requests: list[ModelRequest] = []
        self._text = text
        self._takes = takes
        self._finish = finish

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        self.requests.append(request)
        if len(self.asked) > self._takes:
            raise ModelCallError(ModelFailure(kind="fatal", too_long=True, message="too long"))
        yield Delta(0, "text", self._text)
        parts = (AnswerThinking("hm"), AnswerText(self._text))
        yield Answer(parts, Usage(input_tokens=30, output_tokens=4), self._finish, "listener-1")

    @property
    def asked(self) -> str:
        (message,) = self.requests[-1].messages
        assert isinstance(message, UserTurn)
        return text_of(message.content)


class Silent:
    """A model that never says a word."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        self.asked.set()
        await asyncio.Event().wait()
        yield Delta(0, "text", "never")


def user(text: str) -> UserTurn:
    return UserTurn((TextBlock(text=text),))


def said(text: str) -> AssistantTurn:
    return AssistantTurn((TextPart(id=EventId("p"), text=text),))


class Stage:
    """Runs one compaction of a session as the worker would."""

    def __init__(self) -> None:
        self.compaction = Compaction(window_tokens=1000)
        self.conversation = Conversation(
            [SystemTurn("rule"), user("x" * 2000), said("x" * 1000), user("newest"), said("words")], steps=2
        )
        self.environment = ActivityEnvironment()
        self.environment.info = replace(self.environment.info, workflow_id="acme/sesn_1")
        self.missing: Exception | None = None

    async def run(self, model: ModelClient | ScriptedTurn, *, too_long: bool = False) -> CompactContextResult:
        if isinstance(model, ScriptedTurn):
            model = ScriptedModel({"s": [], "s/compaction": [model]})
        log = OneLog(self._start(), self.conversation)
        log.missing = self.missing
        step = ContextCompaction(logs=cast(SessionLogs, log), tools=Catalogue(Toolbox()), model=model)
        record = CompactContextInput(step=STEP, attempt=3, too_long=too_long)
        async with asyncio.timeout(SOON.total_seconds()):
            return await self.environment.run(step.compact_context, record)

    async def failure(self, model: ModelClient | ScriptedTurn) -> ModelFailure:
        with pytest.raises(ApplicationError) as error:
            await self.run(model)
        assert (error.value.type, error.value.non_retryable) == ("ModelError", True)
        (failure,) = error.value.details
        assert isinstance(failure, ModelFailure)
        return failure

    def _start(self) -> SessionInput:
        definition = AgentDefinition(name="a", model=ModelRef.of("scripted:s"), compaction=self.compaction)
        return SessionInput(
            session_id=SessionId("sesn_1"),
            owner=Owner("acme", "ada"),
            agent=AgentVersion(id=AgentId("agent_1"), version=1, definition=definition),
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_summary_is_stored_with_what_is_kept(stage: Stage) -> None:
    assert await stage.run(Listener()) == CompactContextResult(
        step=STEP,
        model="listener-1",
        summary="short",
        kept=2,
        usage=Usage(input_tokens=30, output_tokens=4),
    )


async def test_model_is_asked_for_a_summary_of_what_goes_and_for_nothing_else(stage: Stage) -> None:
    stage.compaction = Compaction(window_tokens=1000, instructions="Keep all prices.")
    model = Listener()

    await stage.run(model)

    (request,) = model.requests
    assert (str(request.model), request.tools, request.step, request.attempt) == ("scripted:s", (), 2, 3)
    assert request.compacts == 2
    assert "summary" in str(request.system)
    assert "xxxx" in model.asked
    assert "newest" not in model.asked
    assert "Keep all prices." in model.asked


async def test_conversation_larger_than_the_window_is_shortened_for_the_summary(stage: Stage) -> None:
    stage.conversation.messages[1] = user("x" * 100_000)
    model = Listener()

    await stage.run(model)

    assert len(model.asked) < 4 * 1000
    assert "characters left out" in model.asked


async def test_window_that_is_smaller_than_thought_is_found_by_asking_for_less(stage: Stage) -> None:
    stage.compaction = Compaction(window_tokens=100_000)
    stage.conversation.messages[1] = user("x" * 400_000)
    model = Listener(takes=40_000)

    result = await stage.run(model, too_long=True)

    assert result.summary == "short"
    assert 1 < len(model.requests) < 6


async def test_transcript_that_stays_too_long_is_a_failure(stage: Stage) -> None:
    model = Listener(takes=10)

    assert (await stage.failure(model)).too_long
    assert len(model.requests) == 5


async def test_refused_conversation_is_made_smaller_whatever_the_window_is_said_to_be(stage: Stage) -> None:
    stage.compaction = Compaction(window_tokens=100_000)

    assert (await stage.run(Listener())).summary == ""
    assert (await stage.run(Listener(), too_long=True)).summary == "short"


async def test_conversation_that_can_lose_nothing_costs_no_call(stage: Stage) -> None:
    stage.conversation = Conversation([SystemTurn("rule"), user("hello")])
    model = Listener()

    assert await stage.run(model, too_long=True) == CompactContextResult(step=STEP, cost_microcents=0)
    assert model.requests == []


async def test_summary_of_no_end_is_cut(stage: Stage) -> None:
    result = await stage.run(Listener("word " * 1000))

    assert len(result.summary) <= 800


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (Listener("  "), "retryable"),
        (Listener(finish="refusal"), "refused"),
        (ScriptedTurn(failure=ScriptedFailure("rate_limited", attempts=9)), "rate_limited"),
    ],
    ids=["empty", "refused", "rate limit"],
)
async def test_summary_that_is_none_is_a_failure(stage: Stage, model: ModelClient | ScriptedTurn, kind: str) -> None:
    assert (await stage.failure(model)).kind == kind


async def test_log_that_cannot_be_read_is_fatal(stage: Stage) -> None:
    stage.missing = CheckpointError("no such step")

    assert (await stage.failure(Listener())).error_class == "CheckpointError"


async def test_cancellation_leaves_nothing(stage: Stage) -> None:
    model = Silent()
    running = asyncio.create_task(stage.run(model))
    await asyncio.wait_for(model.asked.wait(), SOON.total_seconds())

    stage.environment.cancel(cancellation_details=ActivityCancellationDetails(cancel_requested=True))

    with pytest.raises(asyncio.CancelledError):
        await running
