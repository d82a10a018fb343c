"""What a user of Managed Agents does, from first to last, through the official SDK, with every answer checked.

Written from the SDK's documentation alone and unchanged for all its versions. The sync client takes the same steps as
the async one: `ready` waits for what only the latter makes one wait for. Of sojourn it knows the base URL, and that
``{"type": "function"}`` in an agent's tools is a Python function on the worker.

    python script.py --base-url http://127.0.0.1:8080 --api-key KEY --model scripted:desk [--sync]

The model should follow simple orders; ``desk.py`` has a scripted one that does. It prints a JSON object for each step.
"""

import argparse
import asyncio
import inspect
import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anthropic
from anthropic.lib.sessions import accumulate_managed_agents_event

STEP_SECONDS = 100
"""Longest time for a step. They take about a second; a machine may be busy."""

LOOKUP = {"type": "function", "name": "lookup_order"}
REFUND = {"type": "function", "name": "refund_order", "permission_policy": {"type": "always_ask"}}
ASK = {
    "type": "custom",
    "name": "ask_customer",
    "description": "Asks the customer and gives their answer.",
    "input_schema": {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]},
}


@dataclass
class Run:
    """The client, and what the steps leave for those after them."""

    client: Any
    other: Any
    """The same client with a wrong key."""
    model: str
    name: str = field(default_factory=lambda: f"compat-{uuid.uuid4().hex[:8]}")
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    agent_id: str = ""
    environment_id: str = ""
    session_id: str = ""
    second_id: str = ""

    @property
    def agents(self) -> Any:
        return self.client.beta.agents

    @property
    def environments(self) -> Any:
        return self.client.beta.environments

    @property
    def sessions(self) -> Any:
        return self.client.beta.sessions

    @property
    def events(self) -> Any:
        return self.client.beta.sessions.events


# --- both kinds of client ----------------------------------------------------------------------------------------


async def ready(result: Any) -> Any:
    """What a call gives, from either client."""
    return await result if inspect.isawaitable(result) else result


async def each(items: Any) -> AsyncIterator[Any]:
    """The items of a page and of those after it, or of a stream."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def all_of(items: Any) -> list[Any]:
    return [item async for item in each(items)]


async def close(stream: Any) -> None:
    await ready(stream.close())


async def refused(error: type[Exception], call: Callable[[], Any]) -> Any:
    """The call is refused in the way said; gives the error."""
    try:
        await ready(call())
    except error as found:
        return found
    raise AssertionError(f"no {error.__name__}")


def text(*blocks: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": block} for block in blocks]


def message(words: str) -> dict[str, object]:
    return {"type": "user.message", "content": text(words)}


def said(event: Any) -> str:
    return "".join(block.text for block in event.content if block.type == "text")


class Turn:
    """What a stream shows, from a message to the next idle."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.seen]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.seen if event.type == kind]

    def one(self, kind: str) -> Any:
        (event,) = self.of(kind)
        return event

    @property
    def reason(self) -> Any:
        return self.seen[-1].stop_reason

    @property
    def words(self) -> str:
        return " ".join(said(event) for event in self.of("agent.message"))


async def turn(run: Run, *events: dict[str, object], session_id: str = "") -> Turn:
    """Open a stream, send, and read to the next idle."""
    session_id = session_id or run.session_id
    stream = await ready(run.events.stream(session_id))
    try:
        await ready(run.events.send(session_id, events=list(events)))
        return await until_idle(stream)
    finally:
        await close(stream)


async def until_idle(stream: Any, seen: Turn | None = None) -> Turn:
    seen = seen or Turn()
    async for event in each(stream):
        seen.seen.append(event)
        if event.type == "session.status_idle":
            return seen
    raise AssertionError(f"the stream ended: {seen.types}")


# --- the steps ---------------------------------------------------------------------------------------------------


async def agent(run: Run) -> None:
    tools = [LOOKUP, REFUND, ASK]
    made = await ready(
        run.agents.create(
            name=run.name,
            model=run.model,
            system="You are at an order desk. Do what the message says with the tool it names, and tell its answer.",
            description="An order desk",
            tools=tools,
            metadata={"team": "orders", "shift": "late"},
        )
    )
    assert made.id.startswith("agent_"), made
    assert (made.type, made.version, made.name, made.model.id) == ("agent", 1, run.name, run.model), made
    assert [tool.type for tool in made.tools] == ["function", "function", "custom"], made.tools
    assert made.archived_at is None, made
    assert isinstance(made.created_at, datetime), made
    assert made.metadata == {"team": "orders", "shift": "late"}, made.metadata
    run.agent_id = made.id

    found = await ready(run.agents.retrieve(made.id))
    assert dict(found) == dict(made), found


async def agent_versions(run: Run) -> None:
    changed = await ready(
        run.agents.update(run.agent_id, version=1, description="The order desk", metadata={"shift": None})
    )
    assert (changed.version, changed.description) == (2, "The order desk"), changed
    assert changed.metadata == {"team": "orders"}, changed.metadata

    same = await ready(run.agents.update(run.agent_id, version=2, description="The order desk"))
    assert same.version == 2, same

    conflict = await refused(anthropic.ConflictError, lambda: run.agents.update(run.agent_id, version=1, name="late"))
    assert conflict.request_id, conflict

    old = await ready(run.agents.retrieve(run.agent_id, version=1))
    assert (old.version, old.description) == (1, "An order desk"), old
    versions = await all_of(await ready(run.agents.versions.list(run.agent_id, limit=1)))
    assert [version.version for version in versions] == [2, 1], versions
    listed = [found.id async for found in each(await ready(run.agents.list(limit=100)))]
    assert run.agent_id in listed, listed


async def environment(run: Run) -> None:
    made = await ready(run.environments.create(name=run.name, description="Where orders are looked up"))
    assert made.id.startswith("env_"), made
    assert (made.type, made.name, made.config.type) == ("environment", run.name, "cloud"), made
    assert made.config.networking.type == "unrestricted", made.config
    run.environment_id = made.id

    changed = await ready(run.environments.update(made.id, description="Elsewhere", metadata={"floor": "2"}))
    found = await ready(run.environments.retrieve(made.id))
    assert found.description == changed.description == "Elsewhere", found
    assert found.metadata == {"floor": "2"}, found
    listed = [each_one.id async for each_one in each(await ready(run.environments.list(limit=100)))]
    assert made.id in listed, listed
    await refused(anthropic.ConflictError, lambda: run.environments.create(name=run.name))


async def session(run: Run) -> None:
    made = await ready(
        run.sessions.create(
            agent=run.agent_id,
            environment_id=run.environment_id,
            title="Order 17",
            metadata={"customer": "ada", "channel": "mail"},
        )
    )
    assert made.id.startswith("sesn_"), made
    assert (made.type, made.status, made.title) == ("session", "idle", "Order 17"), made
    assert (made.agent.id, made.agent.version, made.environment_id) == (run.agent_id, 2, run.environment_id), made
    assert made.archived_at is None, made
    run.session_id = made.id

    changed = await ready(run.sessions.update(made.id, title="Order 18", metadata={"channel": None, "tier": "gold"}))
    assert changed.title == "Order 18", changed
    assert changed.metadata == {"customer": "ada", "tier": "gold"}, changed.metadata
    found = await ready(run.sessions.retrieve(made.id))
    assert (found.title, found.metadata) == (changed.title, changed.metadata), found


async def stream_with_deltas(run: Run) -> None:
    seen, snapshot, sent = Turn(), None, None
    stream = await ready(run.events.stream(run.session_id, event_deltas=["agent.message"]))
    try:
        sent = (await ready(run.events.send(run.session_id, events=[message("Say hello.")]))).data[0]
        async for event in each(stream):
            seen.seen.append(event)
            before, snapshot = snapshot, accumulate_managed_agents_event(snapshot, event)
            if event.type == "agent.message" and before is not None and before.id == event.id:
                assert said(event).startswith(said(before)), (said(before), said(event))
            if event.type == "session.status_idle":
                break
    finally:
        await close(stream)
    assert sent.type == "user.message", sent
    assert sent.id.startswith("sevt_"), sent
    assert seen.words, seen.types
    assert seen.reason.type == "end_turn", seen.reason
    # An event that waited is shown again when it is taken up.
    assert {event.id for event in seen.of("user.message")} == {sent.id}, seen.seen
    assert "session.status_running" in seen.types, seen.types
    assert seen.types.index("span.model_request_start") < seen.types.index("span.model_request_end"), seen.types
    assert seen.types[-2:] == ["session.usage", "session.status_idle"], seen.types
    assert seen.one("span.model_request_end").model_usage.output_tokens > 0, seen.seen
    final = [event.id for event in seen.of("agent.message")]
    assert {event.event.id for event in seen.of("event_start")} <= set(final), seen.seen
    found = await ready(run.sessions.retrieve(run.session_id))
    assert found.status == "idle", found
    assert found.usage.input_tokens > 0, found.usage


async def tool_that_is_allowed(run: Run) -> None:
    seen = await turn(run, message("Use lookup_order for number 17."))
    use, result = seen.one("agent.tool_use"), seen.one("agent.tool_result")
    assert (use.name, use.input, use.evaluated_permission) == ("lookup_order", {"number": 17}, "allow"), use
    assert result.tool_use_id == use.id, result
    assert not result.is_error, result
    assert "shipped" in said(result), result
    assert seen.reason.type == "end_turn", seen.reason


async def approval(run: Run) -> None:
    seen = await turn(run, message("Use refund_order for number 17."))
    use = seen.one("agent.tool_use")
    assert (use.name, use.evaluated_permission) == ("refund_order", "ask"), use
    assert (seen.reason.type, seen.reason.event_ids) == ("requires_action", [use.id]), seen.reason
    waiting = await ready(run.sessions.retrieve(run.session_id))
    assert waiting.status == "idle", waiting

    seen = await turn(run, {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"})
    assert seen.one("user.tool_confirmation").tool_use_id == use.id, seen.seen
    assert "refunded" in said(seen.one("agent.tool_result")), seen.seen
    assert seen.reason.type == "end_turn", seen.reason


async def denial(run: Run) -> None:
    use = (await turn(run, message("Use refund_order for number 18."))).one("agent.tool_use")
    answer = {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "deny", "deny_message": "not today"}
    seen = await turn(run, answer)
    result = seen.one("agent.tool_result")
    assert result.tool_use_id == use.id, result
    assert result.is_error, result
    # What the model was told, which it repeats.
    assert "not today" in seen.words, seen.words
    assert seen.reason.type == "end_turn", seen.reason
    await refused(anthropic.BadRequestError, lambda: run.events.send(run.session_id, events=[answer | {"result": "x"}]))


async def custom_tool(run: Run) -> None:
    seen = await turn(run, message("Use ask_customer for their size."))
    use = seen.one("agent.custom_tool_use")
    assert use.name == "ask_customer", use
    assert use.input["question"], use
    assert (seen.reason.type, seen.reason.event_ids) == ("requires_action", [use.id]), seen.reason

    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": text("size 42")}
    seen = await turn(run, answer)
    assert "42" in seen.words, seen.words
    assert seen.reason.type == "end_turn", seen.reason


async def interrupt(run: Run) -> None:
    stream = await ready(run.events.stream(run.session_id, event_deltas=["agent.message"]))
    seen = Turn()
    try:
        await ready(run.events.send(run.session_id, events=[message("Tell a very long story.")]))
        async for event in each(stream):
            seen.seen.append(event)
            if event.type == "event_delta" and event.delta.content.text:
                break
        running = await ready(run.sessions.retrieve(run.session_id))
        sent = await ready(run.events.send(run.session_id, events=[{"type": "user.interrupt"}]))
        await until_idle(stream, seen)
    finally:
        await close(stream)
    assert running.status == "running", running
    assert sent.data[0].id in {event.id for event in seen.of("user.interrupt")}, seen.seen
    assert seen.types.index("event_start") < seen.types.index("event_delta"), seen.types
    assert seen.reason.type == "end_turn", seen.reason
    after = await ready(run.sessions.retrieve(run.session_id))
    assert after.status == "idle", after


async def event_list(run: Run) -> None:
    everything = await all_of(await ready(run.events.list(run.session_id)))
    ids = [event.id for event in everything]
    assert len(ids) == len(set(ids)) > 20, ids
    assert all(event.processed_at is not None for event in everything), everything
    stamps = [event.processed_at for event in everything]
    assert stamps == sorted(stamps), stamps

    paged = await all_of(await ready(run.events.list(run.session_id, limit=5)))
    assert [event.id for event in paged] == ids, paged
    backwards = await all_of(await ready(run.events.list(run.session_id, order="desc", limit=7)))
    assert [event.id for event in backwards] == ids[::-1], backwards
    kinds = ["user.message", "agent.message"]
    chosen = await all_of(await ready(run.events.list(run.session_id, types=kinds)))
    assert [event.id for event in chosen] == [event.id for event in everything if event.type in kinds], chosen
    later = everything[len(everything) // 2].processed_at
    tail = await all_of(await ready(run.events.list(run.session_id, created_at_gt=later)))
    assert [event.id for event in tail] == [event.id for event in everything if event.processed_at > later], tail


async def initial_events(run: Run) -> None:
    made = await ready(
        run.sessions.create(
            agent={"type": "agent", "id": run.agent_id, "version": 1},
            environment_id=run.environment_id,
            initial_events=[message("Say hello.")],
        )
    )
    assert made.agent.version == 1, made
    assert made.status == "running", made
    run.second_id = made.id
    while (await ready(run.sessions.retrieve(made.id))).status != "idle":
        await asyncio.sleep(0.1)
    chosen = await all_of(await ready(run.events.list(made.id, types=["user.message", "agent.message"])))
    assert [event.type for event in chosen] == ["user.message", "agent.message"], chosen


async def overrides(run: Run) -> None:
    made = await ready(
        run.sessions.create(
            agent={"type": "agent_with_overrides", "id": run.agent_id, "system": "Be brief.", "tools": [ASK]},
            environment_id=run.environment_id,
        )
    )
    assert made.agent.system == "Be brief.", made.agent
    assert [tool.name for tool in made.agent.tools] == ["ask_customer"], made.agent
    gone = await ready(run.sessions.delete(made.id))
    assert gone.id == made.id, gone


async def session_list(run: Run) -> None:
    mine = {run.session_id, run.second_id}

    async def listed(**filters: Any) -> list[str]:
        page = await ready(run.sessions.list(agent_id=run.agent_id, limit=1, **filters))
        return [found.id async for found in each(page)]

    async def both(**filters: Any) -> list[str]:
        # What was just made or changed shows in lists a moment later.
        while set(found := await listed(**filters)) != mine:
            await asyncio.sleep(0.1)
        return found

    newest = await both()
    assert newest == [run.second_id, run.session_id], newest
    assert await both(order="asc") == newest[::-1]
    assert await both(statuses=["idle", "running"], created_at_gte=run.began - timedelta(minutes=5)) == newest
    assert await listed(statuses=["terminated"]) == []
    assert await listed(agent_version=1) == [run.second_id]
    assert await listed(created_at_lt=run.began - timedelta(minutes=5)) == []
    first = await ready(run.sessions.list(agent_id=run.agent_id, limit=1))
    second = await ready(run.sessions.list(agent_id=run.agent_id, limit=1, page=first.next_page))
    back = await ready(run.sessions.list(agent_id=run.agent_id, limit=1, page=second.prev_page))
    assert [found.id for found in back.data] == [found.id for found in first.data], back


async def threads(run: Run) -> None:
    (primary,) = await all_of(await ready(run.sessions.threads.list(run.session_id)))
    assert (primary.type, primary.session_id, primary.parent_thread_id) == ("session_thread", run.session_id, None)
    found = await ready(run.sessions.threads.retrieve(primary.id, session_id=run.session_id))
    assert (found.id, found.status) == (primary.id, "idle"), found
    events = await all_of(await ready(run.sessions.threads.events.list(primary.id, session_id=run.session_id)))
    assert {"user.message", "agent.message"} <= {event.type for event in events}, events
    stream = await ready(run.sessions.threads.events.stream(primary.id, session_id=run.session_id))
    await close(stream)


async def refusals(run: Run) -> None:
    missing = await refused(anthropic.NotFoundError, lambda: run.sessions.retrieve(f"sesn_{uuid.uuid4().hex}"))
    assert missing.body["error"]["type"] == "not_found_error", missing.body
    assert missing.request_id, missing
    assert missing.body["request_id"] == missing.request_id, missing.body
    nameless = await refused(anthropic.BadRequestError, lambda: run.agents.create(name="", model=run.model))
    assert "name" in nameless.body["error"]["message"], nameless.body
    unknown = {"type": "user.tool_confirmation", "tool_use_id": f"sevt_{uuid.uuid4().hex}", "result": "allow"}
    await refused(
        anthropic.BadRequestError, lambda: run.events.send(run.session_id, events=[message("Say hello."), unknown])
    )
    foreign = await refused(anthropic.AuthenticationError, lambda: run.other.beta.sessions.retrieve(run.session_id))
    assert foreign.body["error"]["type"] == "authentication_error", foreign.body


async def models(run: Run) -> None:
    listed = await all_of(await ready(run.client.models.list()))
    assert all(model.id and model.type == "model" for model in listed), listed


async def archive(run: Run) -> None:
    ended = await ready(run.sessions.archive(run.session_id))
    assert ended.status == "terminated", ended
    assert ended.archived_at is not None, ended
    await refused(
        anthropic.BadRequestError, lambda: run.events.send(run.session_id, events=[message("Are you there?")])
    )
    assert await all_of(await ready(run.events.list(run.session_id, limit=1000)))
    # A stream of what has ended shows nothing more and ends by itself.
    stream = await ready(run.events.stream(run.session_id))
    assert not [event for event in await all_of(stream) if event.type == "agent.message"]


async def delete(run: Run) -> None:
    for session_id in (run.session_id, run.second_id):
        gone = await ready(run.sessions.delete(session_id))
        assert (gone.id, gone.type) == (session_id, "session_deleted"), gone
        await refused(anthropic.NotFoundError, partial(run.sessions.retrieve, session_id))


async def farewell(run: Run) -> None:
    closed = await ready(run.environments.archive(run.environment_id))
    assert closed.archived_at is not None, closed
    ended = await ready(run.agents.archive(run.agent_id))
    assert ended.archived_at is not None, ended
    await refused(
        anthropic.BadRequestError,
        lambda: run.sessions.create(agent=run.agent_id, environment_id=run.environment_id),
    )
    gone = await ready(run.environments.delete(run.environment_id))
    assert (gone.id, gone.type) == (run.environment_id, "environment_deleted"), gone
    await refused(anthropic.NotFoundError, lambda: run.environments.retrieve(run.environment_id))


STEPS: tuple[Callable[[Run], Awaitable[None]], ...] = (
    agent,
    agent_versions,
    environment,
    session,
    stream_with_deltas,
    tool_that_is_allowed,
    approval,
    denial,
    custom_tool,
    interrupt,
    event_list,
    initial_events,
    overrides,
    session_list,
    threads,
    refusals,
    models,
    archive,
    delete,
    farewell,
)


async def play(run: Run) -> bool:
    """Take the steps in order, up to the first that fails."""
    for step in STEPS:
        began, name = time.perf_counter(), step.__name__.replace("_", " ")
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await step(run)
        except Exception as error:
            traceback.print_exc()
            tell(step=name, ok=False, error=f"{type(error).__name__}: {error}"[:500])
            return False
        tell(step=name, ok=True, seconds=round(time.perf_counter() - began, 2))
    return True


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Play a user of the SDK against a server.")
    parser.add_argument("--base-url", default=os.environ.get("ANTHROPIC_BASE_URL"))
    parser.add_argument("--api-key", default=os.environ.get("ANTHROPIC_API_KEY"))
    parser.add_argument("--model", default="scripted:desk")
    parser.add_argument("--sync", action="store_true", help="use the sync client")
    arguments = parser.parse_args()
    kind = anthropic.Anthropic if arguments.sync else anthropic.AsyncAnthropic
    client = kind(base_url=arguments.base_url, api_key=arguments.api_key)
    other = kind(base_url=arguments.base_url, api_key="a wrong key")
    tell(sdk=anthropic.__version__, client=kind.__name__, steps=len(STEPS))
    return 0 if asyncio.run(play(Run(client, other, arguments.model))) else 1


if __name__ == "__main__":
    sys.exit(main())
