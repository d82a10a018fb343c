from typing import Any

import anthropic
import pytest

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import UserCustomToolResult, UserMessage

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "custom", "name": "weather", "description": "Tells the weather", "input_schema": SCHEMA}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def message(*texts: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text} for text in texts or ("Hello",)]}


async def talking(gateway: Any, *turns: ScriptedTurn, **fields: Any) -> Any:
    await gateway.stage.work(list(turns) or [ScriptedTurn(text="Yes")])
    agent = await gateway.sdk.beta.agents.create(**{"name": "actor", "model": "scripted:play", **fields})
    session = await gateway.sdk.beta.sessions.create(agent=agent.id, environment_id=gateway.environment)
    return gateway.stage.watch(gateway.stage.runtime.session(session.id))


async def test_sent_events_come_back_with_ids_and_unprocessed(gateway: Any) -> None:
    probe = await talking(gateway)

    sent = await gateway.sdk.beta.sessions.events.send(probe.session.id, events=[message("One"), message("Two")])

    assert [event.type for event in sent.data] == ["user.message", "user.message"]
    assert [event.content[0].text for event in sent.data] == ["One", "Two"]
    assert [event.processed_at for event in sent.data] == [None, None]
    await probe.idle(2)
    assert [event.id for event in probe.of(UserMessage)] == [event.id for event in sent.data]


async def test_every_kind_of_block_is_taken(gateway: Any) -> None:
    probe = await talking(gateway)
    content = [
        {"type": "text", "text": "See"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Text"}, "title": "T"},
    ]

    sent = await gateway.http.post(
        f"/v1/sessions/{probe.session.id}/events", json={"events": [{"type": "user.message", "content": content}]}
    )

    assert sent.status_code == 200
    assert sent.json()["data"][0]["content"][:3] == content[:3]
    await probe.idle()


async def test_custom_tool_is_answered_by_its_event_id(gateway: Any) -> None:
    probe = await talking(
        gateway,
        ScriptedTurn(calls=[ScriptedCall("weather", {"city": "Rome"})]),
        ScriptedTurn(text="Sunny"),
        tools=[WEATHER],
    )
    events = gateway.sdk.beta.sessions.events
    await events.send(probe.session.id, events=[message()])
    (call,) = await probe.parked()

    answer = {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": call,
        "content": [{"type": "text", "text": "30"}],
    }
    sent = await events.send(probe.session.id, events=[answer])

    assert sent.data[0].custom_tool_use_id == call
    assert sent.data[0].is_error is False
    await probe.idle(2, "end_turn")
    assert [event.id for event in probe.of(UserCustomToolResult)] == [sent.data[0].id]
    with pytest.raises(anthropic.BadRequestError):
        await events.send(probe.session.id, events=[{**answer, "is_error": True}])


async def test_batch_is_all_or_nothing(gateway: Any) -> None:
    probe = await talking(gateway)
    unknown = {"type": "user.tool_confirmation", "tool_use_id": "sevt_unknown", "result": "allow"}

    with pytest.raises(anthropic.BadRequestError):
        await gateway.sdk.beta.sessions.events.send(probe.session.id, events=[message(), unknown])

    assert await gateway.stage.runtime.list_events(probe.session) == []


async def test_interrupt_names_the_primary_thread_or_none(gateway: Any) -> None:
    probe = await talking(gateway)
    primary = f"sthr_{probe.session.id.removeprefix('sesn_')}"
    events = gateway.sdk.beta.sessions.events

    await events.send(probe.session.id, events=[{"type": "user.interrupt", "session_thread_id": primary}])
    await events.send(probe.session.id, events=[{"type": "user.interrupt"}])
    with pytest.raises(anthropic.BadRequestError, match=r"events\.0\.session_thread_id"):
        await events.send(probe.session.id, events=[{"type": "user.interrupt", "session_thread_id": "sthr_other"}])

    await probe.idle(2)


async def test_system_message_while_answers_are_awaited_comes_right_behind_a_result(gateway: Any) -> None:
    probe = await talking(
        gateway, ScriptedTurn(calls=[ScriptedCall("weather", {})]), ScriptedTurn(text="So"), tools=[WEATHER]
    )
    events = gateway.sdk.beta.sessions.events
    system = {"type": "system.message", "content": [{"type": "text", "text": "Be brief"}]}
    await events.send(probe.session.id, events=[message(), system])
    (call,) = await probe.parked()

    with pytest.raises(anthropic.BadRequestError, match=r"events\.0"):
        await events.send(probe.session.id, events=[system])
    with pytest.raises(anthropic.BadRequestError, match=r"events\.1"):
        await events.send(probe.session.id, events=[message(), system])
    await events.send(
        probe.session.id, events=[{"type": "user.custom_tool_result", "custom_tool_use_id": call}, system]
    )

    await probe.idle(2, "end_turn")
    await events.send(probe.session.id, events=[system])
    await probe.caught_up()


async def test_tool_result_with_an_api_key_is_forbidden(gateway: Any) -> None:
    probe = await talking(gateway)

    with pytest.raises(anthropic.PermissionDeniedError):
        await gateway.sdk.beta.sessions.events.send(
            probe.session.id, events=[{"type": "user.tool_result", "tool_use_id": "sevt_1"}]
        )


def block(**fields: Any) -> list[dict[str, Any]]:
    return [message(), {"type": "user.message", "content": [fields]}]


@pytest.mark.parametrize(
    ("events", "path"),
    [
        ([], "events"),
        ([message()] * 1001, "events"),
        ("hello", "events"),
        ([5], "events.0"),
        ([{}], "events.0.type"),
        ([{"type": "user.massage"}], "events.0.type"),
        ([{"type": "agent.message", "content": []}], "events.0.type"),
        ([message(), {"type": "user.message", "content": []}], "events.1.content"),
        ([message(), {"type": "user.message", "content": "Hi"}], "events.1.content"),
        ([message(" ")], "events.0.content"),
        (block(type="text"), "events.1.content.0.text"),
        (block(type="text", text=5), "events.1.content.0.text"),
        (block(type="text", text="x", odd=1), "events.1.content.0.odd"),
        (block(type="redacted"), "events.1.content.0.type"),
        (block(type="search_result", source="s", title="t", content=[]), "events.1.content.0.type"),
        (block(type="image", source={"type": "file", "file_id": "f"}), "events.1.content.0.source.file_id"),
        (
            block(type="image", source={"type": "base64", "media_type": "image/png", "data": "!"}),
            "events.1.content.0.source.data",
        ),
        (
            block(type="image", source={"type": "base64", "media_type": "text/html", "data": PIXEL}),
            "events.1.content.0.source.media_type",
        ),
        (block(type="document", source={"type": "url"}), "events.1.content.0.source.url"),
        ([{"type": "user.tool_confirmation", "result": "allow"}], "events.0.tool_use_id"),
        ([{"type": "user.tool_confirmation", "tool_use_id": "x", "result": "maybe"}], "events.0.result"),
        (
            [{"type": "user.tool_confirmation", "tool_use_id": "x", "result": "allow", "deny_message": "no"}],
            "events.0.deny_message",
        ),
        ([{"type": "user.custom_tool_result"}], "events.0.custom_tool_use_id"),
        (
            [{"type": "user.custom_tool_result", "custom_tool_use_id": "x", "content": [{"type": "odd"}]}],
            "events.0.content.0.type",
        ),
        (
            [{"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "c"}}],
            "events.0.type",
        ),
        ([{"type": "system.message", "content": []}], "events.0.content"),
        ([{"type": "system.message", "content": [{"type": "image"}]}], "events.0.content.0.type"),
        ([{"type": "system.message", "content": [{"type": "text", "text": "a"}] * 1001}], "events.0.content"),
        (
            [{"type": "system.message", "content": [{"type": "text", "text": "a"}]}, message()],
            "events.0.type",
        ),
        (
            [{"type": "user.interrupt"}, {"type": "system.message", "content": [{"type": "text", "text": "a"}]}],
            "events.1.type",
        ),
        ([{**message(), "id": "mine"}], "events.0.id"),
        ([{**message(), "processed_at": None}], "events.0.processed_at"),
        ([{**message(), "id": "sevt_1"}, {**message(), "id": "sevt_1"}], "events.1.id"),
    ],
)
async def test_bad_event_is_refused_by_its_path(gateway: Any, events: Any, path: str) -> None:
    answer = await gateway.http.post("/v1/sessions/sesn_1/events", json={"events": events})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{path}: "), answer.json()
