from typing import Any

from sojourn.testing import ScriptedTurn


async def started(gateway: Any, number: int, agent: Any, **fields: Any) -> list[str]:
    sessions = gateway.sdk.beta.sessions
    return [
        (await sessions.create(agent=agent.id, environment_id=gateway.environment, title=f"s{place}", **fields)).id
        for place in range(number)
    ]


async def test_sessions_are_listed_in_both_orders_and_both_directions(gateway: Any, eventually: Any) -> None:
    agent = await gateway.sdk.beta.agents.create(name="actor", model="scripted:echo")
    made = await started(gateway, 5, agent)
    path = "/v1/sessions"

    async def listed() -> bool:
        return len((await gateway.http.get(path)).json()["data"]) == 5

    await eventually(listed, "all sessions are listed")
    for order, wanted in (("desc", made[::-1]), ("asc", made)):
        first = (await gateway.http.get(f"{path}?limit=2&order={order}")).json()
        second = (await gateway.http.get(f"{path}?limit=2&order={order}&page={first['next_page']}")).json()
        third = (await gateway.http.get(f"{path}?limit=2&order={order}&page={second['next_page']}")).json()
        back = (await gateway.http.get(f"{path}?limit=2&order={order}&page={second['prev_page']}")).json()
        other = "asc" if order == "desc" else "desc"
        wrong = await gateway.http.get(f"{path}?limit=2&order={other}&page={first['next_page']}")

        pages = [[each["id"] for each in page["data"]] for page in (first, second, third)]
        assert pages == [wanted[:2], wanted[2:4], wanted[4:]]
        assert back["data"][0]["id"] == wanted[0]
        assert (first["prev_page"], third["next_page"]) == (None, None)
        assert wrong.status_code == 400
        assert wrong.json()["error"]["message"].startswith("page"), wrong.text


async def test_every_filter_of_sessions(gateway: Any, eventually: Any) -> None:
    await gateway.stage.work([ScriptedTurn(text="Yes")])
    agents, sessions = gateway.sdk.beta.agents, gateway.sdk.beta.sessions
    agent = await agents.create(name="actor", model="scripted:play")
    other = await agents.create(name="other", model="scripted:play")
    first, second = await started(gateway, 2, agent)
    await agents.update(agent.id, name="actress")
    (third,) = await started(gateway, 1, agent)
    (fourth,) = await started(gateway, 1, other)
    await sessions.archive(second)
    created = (await sessions.retrieve(third)).created_at

    async def shown(**query: Any) -> set[str]:
        return {each.id async for each in sessions.list(**query)}

    async def listed() -> bool:
        return await shown() == {first, third, fourth}

    await eventually(listed, "sessions but the archived one are listed")
    assert await shown(include_archived=True) == {first, second, third, fourth}
    assert await shown(agent_id=agent.id) == {first, third}
    assert await shown(agent_id=agent.id, agent_version=1) == {first}
    assert await shown(agent_id=agent.id, agent_version=2) == {third}
    assert await shown(statuses=["idle"]) == {first, third, fourth}
    assert await shown(statuses=["terminated"], include_archived=True) == {second}
    assert await shown(statuses=["running", "rescheduling"]) == set()
    assert await shown(created_at_gte=created) == {third, fourth}
    assert await shown(created_at_gt=created) == {fourth}
    assert await shown(created_at_lte=created) == {first, third}
    assert await shown(created_at_lt=created) == {first}
    assert await shown(deployment_id="depl_none") == set()
    assert await shown(memory_store_id="memstore_none") == set()
