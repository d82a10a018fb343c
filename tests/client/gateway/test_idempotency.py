import asyncio
from typing import Any

from sojourn.types import UserMessage

RETRY = {"x-stainless-retry-count": "1"}
AGENT = {"name": "actor", "model": "scripted:echo"}


def sending(text: str = "Hello") -> dict[str, Any]:
    return {"events": [{"type": "user.message", "content": [{"type": "text", "text": text}]}]}


async def session_of(gateway: Any) -> Any:
    agent = await gateway.sdk.beta.agents.create(**AGENT)
    session = await gateway.sdk.beta.sessions.create(agent=agent.id, environment_id=gateway.environment)
    return gateway.stage.runtime.session(session.id)


async def messages(gateway: Any, session: Any) -> list[str]:
    log = await gateway.stage.runtime.list_events(session)
    return [event.id for event in log if isinstance(event, UserMessage)]


async def test_equal_creates_make_things_of_their_own(gateway: Any) -> None:
    made = [(await gateway.http.post("/v1/agents", json=AGENT)).json()["id"] for _ in range(3)]
    made += [
        each.json()["id"]
        for each in await asyncio.gather(*(gateway.http.post("/v1/agents", json=AGENT) for _ in "abc"))
    ]

    assert len(set(made)) == 6


async def test_retry_of_a_create_finds_what_was_made(gateway: Any) -> None:
    first = (await gateway.http.post("/v1/agents", json=AGENT)).json()
    second = (await gateway.http.post("/v1/agents", json=AGENT)).json()

    again = (await gateway.http.post("/v1/agents", json=AGENT, headers=RETRY)).json()

    assert first["id"] != second["id"]
    assert again == second


async def test_retry_reaches_another_process(gateway: Any) -> None:
    made = [(await gateway.http.post("/v1/agents", json=AGENT)).json() for _ in range(5)]
    # What another replica would know.
    gateway.gateway.recent.rows.__init__()

    again = (await gateway.http.post("/v1/agents", json=AGENT, headers=RETRY)).json()
    gateway.gateway.recent.rows.__init__()
    new = (await gateway.http.post("/v1/agents", json=AGENT)).json()

    assert again == made[-1]
    assert new["id"] not in {each["id"] for each in made}


async def test_retry_whose_first_attempt_never_came_makes_the_thing(gateway: Any) -> None:
    made = await gateway.http.post("/v1/agents", json=AGENT, headers=RETRY)
    again = await gateway.http.post("/v1/agents", json=AGENT, headers={"x-stainless-retry-count": "2"})

    assert made.status_code == 200
    assert again.json() == made.json()


async def test_retry_beside_its_first_attempt_makes_nothing_more(gateway: Any) -> None:
    first = asyncio.create_task(gateway.http.post("/v1/agents", json=AGENT))
    again = asyncio.create_task(gateway.http.post("/v1/agents", json=AGENT, headers=RETRY))

    ids = {(await first).json()["id"], (await again).json()["id"]}
    late = (await gateway.http.post("/v1/agents", json=AGENT, headers=RETRY)).json()["id"]

    # Whichever was seen first: a client that is there gets its own, and the retry one of the two.
    assert late in ids


async def test_other_body_other_key_or_other_caller_is_another_request(gateway: Any) -> None:
    first = (await gateway.http.post("/v1/agents", json=AGENT)).json()

    other = (await gateway.http.post("/v1/agents", json={**AGENT, "name": "b"}, headers=RETRY)).json()
    async with gateway.client("bob") as bob:
        his = (await bob.post("/v1/agents", json=AGENT, headers=RETRY)).json()

    assert len({first["id"], other["id"], his["id"]}) == 3


async def test_idempotency_key_makes_one_thing(gateway: Any) -> None:
    headers = {"idempotency-key": "order-17"}

    made = await asyncio.gather(*(gateway.http.post("/v1/agents", json=AGENT, headers=headers) for _ in range(4)))
    other = await gateway.http.post("/v1/agents", json={**AGENT, "name": "b"}, headers=headers)
    bad = await gateway.http.post("/v1/agents", json=AGENT, headers={"idempotency-key": "x" * 256})

    assert {each.status_code for each in made} == {200}
    assert len({each.json()["id"] for each in made}) == 1
    assert (other.status_code, bad.status_code) == (400, 400)


async def test_idempotency_key_starts_one_session_with_its_first_messages_once(gateway: Any) -> None:
    agent = await gateway.sdk.beta.agents.create(**AGENT)
    body = {"agent": agent.id, "environment_id": gateway.environment, "initial_events": sending()["events"]}
    headers = {"idempotency-key": "session-1"}

    first = (await gateway.http.post("/v1/sessions", json=body, headers=headers)).json()
    again = (await gateway.http.post("/v1/sessions", json=body, headers=headers)).json()

    assert again["id"] == first["id"]
    assert len(await messages(gateway, gateway.stage.runtime.session(first["id"]))) == 1


async def test_retry_of_a_session_with_first_messages_does_not_send_them_again(gateway: Any) -> None:
    agent = await gateway.sdk.beta.agents.create(**AGENT)
    body = {"agent": agent.id, "environment_id": gateway.environment, "initial_events": sending()["events"]}

    first = (await gateway.http.post("/v1/sessions", json=body)).json()
    again = (await gateway.http.post("/v1/sessions", json=body, headers=RETRY)).json()

    assert again["id"] == first["id"]
    assert len(await messages(gateway, gateway.stage.runtime.session(first["id"]))) == 1


async def test_equal_messages_are_two_and_a_retry_is_none(gateway: Any) -> None:
    session = await session_of(gateway)
    path = f"/v1/sessions/{session.id}/events"

    first = (await gateway.http.post(path, json=sending())).json()
    second = (await gateway.http.post(path, json=sending())).json()
    again = (await gateway.http.post(path, json=sending(), headers=RETRY)).json()

    assert again == second
    assert await messages(gateway, session) == [first["data"][0]["id"], second["data"][0]["id"]]


async def test_retried_message_that_never_came_is_sent(gateway: Any) -> None:
    session = await session_of(gateway)
    path = f"/v1/sessions/{session.id}/events"

    sent = (await gateway.http.post(path, json=sending(), headers=RETRY)).json()

    assert await messages(gateway, session) == [sent["data"][0]["id"]]


async def test_retry_beside_the_first_sending_sends_nothing_more(gateway: Any) -> None:
    session = await session_of(gateway)
    path = f"/v1/sessions/{session.id}/events"
    await gateway.http.post(path, json=sending("Before"))

    both = await asyncio.gather(
        gateway.http.post(path, json=sending(), headers=RETRY),
        gateway.http.post(path, json=sending(), headers={"x-stainless-retry-count": "2"}),
    )

    assert {each.status_code for each in both} == {200}
    assert len({each.json()["data"][0]["id"] for each in both}) == 1
    assert len(await messages(gateway, session)) == 2


async def test_messages_with_an_idempotency_key_are_sent_once(gateway: Any) -> None:
    session = await session_of(gateway)
    path = f"/v1/sessions/{session.id}/events"
    headers = {"idempotency-key": "m-1"}

    answers = await asyncio.gather(*(gateway.http.post(path, json=sending(), headers=headers) for _ in range(3)))
    other = await gateway.http.post(path, json=sending("Other"), headers=headers)

    assert len({answer.json()["data"][0]["id"] for answer in answers}) == 1
    assert len(await messages(gateway, session)) == 1
    assert other.status_code == 400
