import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from sojourn.activities import Tool, Toolbox, tool
from sojourn.activities.catalogue import Catalogue
from sojourn.activities.conversation import Conversation, UserTurn
from sojourn.activities.envelope import Envelope
from sojourn.activities.model import Answer, AnswerText, Delta, ModelClient, ModelRequest
from sojourn.activities.model_step import ModelStep
from sojourn.activities.session_log import SessionLogs
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedModel, ScriptedTurn
from sojourn.types.agent import AgentDefinition, AgentVersion, CustomTool, FunctionTool
from sojourn.types.content import TextBlock
from sojourn.types.converter import data_converter
from sojourn.types.error import CheckpointError
from sojourn.types.failure import FailureKind, ModelFailure
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.model import ModelRef
from sojourn.types.permission import Permission, PermissionPolicy
from sojourn.types.preview import ModelPreview
from sojourn.types.record import CallModelInput, CallModelResult, TextPart, ThinkingPart, ToolCallPart
from sojourn.types.session import Owner, SessionInput
from sojourn.types.usage import Usage

STEP = EventId("sevt_step")
ENVELOPE = Envelope(cast(Client, SimpleNamespace(data_converter=data_converter)))
"""Of a worker without a store."""
SOON = timedelta(seconds=45)
"""Bound on every wait; what is waited for comes at once."""
LONG_TEXT = "word " * 10_000


@tool
async def search(query: str) -> str:
    """Search."""
    return query


@tool(idempotent=True, timeout=timedelta(seconds=7), permission="ask")
async def pay(amount: int) -> None:
    """Pay."""


ASK_USER = CustomTool(
    name="ask_user", description="Ask the user", input_schema={"type": "object"}, timeout=timedelta(seconds=9)
)


class OneLog:
    """The log of one session, folded up to the step. Stands in for `SessionLogs`."""

    def __init__(self, start: SessionInput, conversation: Conversation) -> None:
        self.start = start
        self.conversation = conversation
        self.missing: Exception | None = None
        self.remembered: list[CallModelResult] = []
        self.asked: list[tuple[str, str, EventId]] = []
        self._workflow_id = ""

    def get(self, workflow_id: str) -> "OneLog":
        self._workflow_id = workflow_id
        return self

    async def context(self, run_id: str, record: CallModelInput) -> tuple[SessionInput, Conversation]:
        self.asked.append((self._workflow_id, run_id, record.step))
        if self.missing is not None:
            raise self.missing
        return self.start, self.conversation

    def remember(self, result: CallModelResult) -> None:
        self.remembered.append(result)


class Listener:
    """A model that remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        self.requests.append(request)
        yield Answer((AnswerText("ok"),), Usage(), "stop", "listener-1")


class Mute:
    """A model whose stream ends before its answer."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        yield Delta(0, "text", "I was ab")


class Silent:
    """A model that never says a word."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.closed = False

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        self.asked.set()
        try:
            await asyncio.Event().wait()
            yield Delta(0, "text", "never")
        finally:
            self.closed = True


class Stage:
    """Runs one step of a session as the worker would."""

    def __init__(self) -> None:
        self.conversation = Conversation([UserTurn((TextBlock(text="hello"),))], steps=0)
        self.permissions = PermissionPolicy()
        self.agent_policy = PermissionPolicy()
        self.worker_policy = PermissionPolicy()
        self.tools: tuple[FunctionTool | CustomTool, ...] = ()
        self.toolbox: list[Tool] = [search, pay]
        self.environment = ActivityEnvironment()
        self.environment.info = replace(self.environment.info, workflow_id="acme/sesn_1")
        self.previews: list[ModelPreview] = []
        self.beaten = asyncio.Event()
        self.environment.on_heartbeat = self._beat
        self.log: OneLog | None = None
        self.missing: Exception | None = None

    def _beat(self, *details: object) -> None:
        for each in details:
            assert isinstance(each, ModelPreview)
            self.previews.append(each)
            self.beaten.set()

    def _start(self) -> SessionInput:
        definition = AgentDefinition(
            name="a",
            model=ModelRef.of("scripted:s"),
            system="Be brief.",
            tools=self.tools,
            permission_policy=self.agent_policy,
        )
        return SessionInput(
            session_id=SessionId("sesn_1"),
            owner=Owner("acme", "ada"),
            agent=AgentVersion(id=AgentId("agent_1"), version=1, definition=definition),
            permissions=self.permissions,
        )

    async def run(self, model: ModelClient | ScriptedTurn, *, attempt: int = 1) -> CallModelResult:
        client = ScriptedModel({"s": [model]}) if isinstance(model, ScriptedTurn) else model
        self.log = OneLog(self._start(), self.conversation)
        self.log.missing = self.missing
        step = ModelStep(
            logs=cast(SessionLogs, self.log),
            tools=Catalogue(Toolbox(self.toolbox)),
            model=client,
            policy=self.worker_policy,
            envelope=ENVELOPE,
        )
        async with asyncio.timeout(SOON.total_seconds()):
            return await self.environment.run(step.call_model, CallModelInput(step=STEP, attempt=attempt))

    async def failure(self, model: ModelClient | ScriptedTurn) -> ModelFailure:
        with pytest.raises(ApplicationError) as error:
            await self.run(model)
        assert (error.value.type, error.value.non_retryable) == ("ModelError", True)
        (failure,) = error.value.details
        assert isinstance(failure, ModelFailure)
        return failure

    @asynccontextmanager
    async def running(self, model: ScriptedTurn) -> AsyncGenerator[asyncio.Task[CallModelResult], None]:
        """A step that has shown a preview."""
        task = asyncio.create_task(self.run(model))
        try:
            await asyncio.wait_for(self.beaten.wait(), SOON.total_seconds())
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def call_of(result: CallModelResult) -> ToolCallPart:
    (call,) = result.calls
    return call


# --- the answer ------------------------------------------------------------------------------------------------------


async def test_answer_becomes_parts_in_order_with_ids(stage: Stage) -> None:
    stage.tools = (FunctionTool(name="search"),)
    turn = ScriptedTurn(
        thinking="hm", text="hello there", calls=[ScriptedCall("search", {"query": "x"})], usage=Usage(input_tokens=3)
    )

    result = await stage.run(turn)

    thinking, text, call = result.parts
    assert thinking == ThinkingPart(id=thinking.id, text="hm", signature="scripted")
    assert text == TextPart(id=text.id, text="hello there")
    assert call == ToolCallPart(
        id=call.id,
        call_id="call_0_0",
        name="search",
        input={"query": "x"},
        kind="function",
        permission="allow",
    )
    assert len({part.id for part in result.parts}) == 3
    assert all(part.id.startswith("sevt_") for part in result.parts)
    assert (result.step, result.model, result.usage) == (STEP, "scripted:s", Usage(input_tokens=3))
    assert result.finish_reason == "tool_calls"


async def test_answer_of_nothing_has_no_parts(stage: Stage) -> None:
    result = await stage.run(ScriptedTurn())

    assert (result.parts, result.finish_reason) == ((), "stop")


async def test_answer_is_remembered_for_the_tools_that_follow(stage: Stage) -> None:
    result = await stage.run(ScriptedTurn(text="hi"))

    assert stage.log is not None
    assert stage.log.remembered == [result]


async def test_model_is_shown_the_conversation_up_to_the_step(stage: Stage) -> None:
    stage.tools = (FunctionTool(name="search"), ASK_USER)
    stage.conversation.steps = 4
    model = Listener()

    result = await stage.run(model, attempt=3)

    (request,) = model.requests
    assert stage.log is not None
    assert stage.log.asked == [("acme/sesn_1", "test-run", STEP)]
    assert (str(request.model), request.system) == ("scripted:s", "Be brief.")
    assert (list(request.messages), request.step, request.attempt) == (stage.conversation.messages, 4, 3)
    assert [(spec.name, spec.description) for spec in request.tools] == [
        ("search", "Search."),
        ("ask_user", "Ask the user"),
    ]
    assert request.tools[0].input_schema == search.input_schema
    assert result.model == "listener-1"


async def test_tool_of_the_worker_that_the_agent_does_not_name_is_not_shown(stage: Stage) -> None:
    model = Listener()

    await stage.run(model)

    assert model.requests[0].tools == []


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_call_carries_what_the_worker_knows_about_the_tool(stage: Stage) -> None:
    stage.tools = (FunctionTool(name="pay"),)

    call = call_of(await stage.run(ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 5})])))

    assert (call.kind, call.idempotent, call.timeout) == ("function", True, timedelta(seconds=7))
    assert call.permission == "ask"


async def test_call_of_a_custom_tool_carries_its_own_wait(stage: Stage) -> None:
    stage.tools = (ASK_USER,)

    call = call_of(await stage.run(ScriptedTurn(calls=[ScriptedCall("ask_user")])))

    assert (call.kind, call.idempotent, call.timeout) == ("custom", False, timedelta(seconds=9))


@pytest.mark.parametrize("name", ["search", "telepathy"], ids=["not the agent's", "nobody's"])
async def test_call_of_a_tool_that_the_agent_does_not_have_is_unknown(stage: Stage, name: str) -> None:
    """Even if the worker has it: the definition says what the agent may use."""
    call = call_of(await stage.run(ScriptedTurn(calls=[ScriptedCall(name)])))

    assert (call.kind, call.idempotent) == ("unknown", False)


@pytest.mark.parametrize(
    ("rules", "permission"),
    [
        ({}, "ask"),
        ({"configured": "allow"}, "allow"),
        ({"session": "allow"}, "allow"),
        ({"agent": "allow"}, "allow"),
        ({"worker": "allow"}, "allow"),
        ({"configured": "ask", "session": "allow"}, "ask"),
        ({"configured": "allow", "worker": "deny"}, "deny"),
    ],
    ids=str,
)
async def test_permission_of_a_call_comes_from_all_rules(
    stage: Stage, rules: Mapping[str, Permission], permission: Permission
) -> None:
    """`pay` declares "ask" itself."""
    policies = {where: PermissionPolicy(tools={"pay": rule}) for where, rule in rules.items()}
    stage.tools = (FunctionTool(name="pay", permission=rules.get("configured")),)
    stage.permissions = policies.get("session", PermissionPolicy())
    stage.agent_policy = policies.get("agent", PermissionPolicy())
    stage.worker_policy = policies.get("worker", PermissionPolicy())

    call = call_of(await stage.run(ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 1})])))

    assert call.permission == permission


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["retryable", "rate_limited", "refused", "fatal"])
async def test_failure_travels_as_it_was_classified(stage: Stage, kind: FailureKind) -> None:
    wish = timedelta(seconds=3)

    failure = await stage.failure(ScriptedTurn(failure=ScriptedFailure(kind=kind, message="no luck", retry_after=wish)))

    assert failure == ModelFailure(kind=kind, message="no luck", provider="scripted", retry_after=wish)


async def test_tool_that_the_worker_lacks_fails_the_step_for_good(stage: Stage) -> None:
    stage.tools = (FunctionTool(name="fly"),)

    failure = await stage.failure(ScriptedTurn(text="hi"))

    assert (failure.kind, failure.error_class) == ("fatal", "ToolNotFoundError")
    assert "no tool 'fly' (it has: pay, search)" in failure.message


async def test_log_that_cannot_be_read_fails_the_step_for_good(stage: Stage) -> None:
    stage.missing = CheckpointError("the log ends early")

    failure = await stage.failure(ScriptedTurn(text="hi"))

    assert (failure.kind, failure.error_class, failure.message) == ("fatal", "CheckpointError", "the log ends early")


async def test_stream_that_ends_before_its_answer_may_be_tried_again(stage: Stage) -> None:
    failure = await stage.failure(Mute())

    assert failure.kind == "retryable"


async def test_failed_step_is_not_remembered(stage: Stage) -> None:
    await stage.failure(Mute())

    assert stage.log is not None
    assert stage.log.remembered == []


# --- previews and interrupts -----------------------------------------------------------------------------------------


async def test_previews_show_growing_text_under_the_ids_of_the_answer(stage: Stage) -> None:
    turn = ScriptedTurn(thinking="hm", text="one two three four five", chunk_delay=timedelta(milliseconds=60))

    result = await stage.run(turn)

    thinking, text = result.parts
    assert isinstance(text, TextPart)
    assert stage.previews
    for preview in stage.previews:
        for part in preview.parts:
            assert (part.id, part.type) in [(thinking.id, "agent.thinking"), (text.id, "agent.message")]
            assert text.text.startswith(part.text)
    lengths = [sum(len(part.text) for part in preview.parts) for preview in stage.previews]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 0


async def test_thoughts_are_not_previewed(stage: Stage) -> None:
    async with stage.running(ScriptedTurn(thinking="secret", text="open", stall=True)):
        pass

    assert "secret" not in "".join(preview.model_dump_json() for preview in stage.previews)


async def test_preview_of_a_long_text_is_its_end(stage: Stage) -> None:
    async with stage.running(ScriptedTurn(text=LONG_TEXT, stall=True)) as step:
        stage.environment.cancel()
        await step

    (part,) = stage.previews[-1].parts
    assert part.offset > 0
    assert len(part.text) == 20_000
    assert LONG_TEXT[: part.offset + len(part.text)].endswith(part.text)


async def test_interrupted_step_keeps_the_text_so_far(stage: Stage) -> None:
    async with stage.running(ScriptedTurn(thinking="hm", text="I was ab", stall=True)) as step:
        stage.environment.cancel()
        result = await step

    (text,) = result.parts
    assert text == TextPart(id=text.id, text="I was ab")
    assert (result.step, result.finish_reason) == (STEP, "interrupted")
    assert text.id in [part.id for part in stage.previews[-1].parts]


async def test_step_interrupted_before_its_first_word_keeps_nothing(stage: Stage) -> None:
    model = Silent()
    step = asyncio.create_task(stage.run(model))
    await asyncio.wait_for(model.asked.wait(), SOON.total_seconds())

    stage.environment.cancel()
    result = await step

    assert (result.parts, result.finish_reason) == ((), "interrupted")
    assert model.closed


@pytest.mark.parametrize(
    "details",
    [ActivityCancellationDetails(worker_shutdown=True), ActivityCancellationDetails(timed_out=True)],
    ids=["worker stops", "out of time"],
)
async def test_step_that_nobody_interrupted_leaves_nothing(stage: Stage, details: ActivityCancellationDetails) -> None:
    """Another worker answers instead; half an answer must not take its place."""
    async with stage.running(ScriptedTurn(text="I was ab", stall=True)) as step:
        stage.environment.cancel(details)
        with pytest.raises(asyncio.CancelledError):
            await step
