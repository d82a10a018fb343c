import asyncio
from pathlib import Path
from typing import Any

TOML = """
name = "nightly"
agent = "{agent}"
initial_events = [{{ type = "user.message", content = [{{ type = "text", text = "hello" }}] }}]

[schedule]
expression = "0 3 * * *"
timezone = "Europe/Berlin"
"""


async def new_agent(sojourn: Any) -> str:
    made = await sojourn("agents", "create", "--name", "clerk", "--model", "scripted:echo", "--json")
    return str(made.document["id"])


async def test_schedule_lives_from_create_to_archive(sojourn: Any, settle: Any) -> None:
    agent = await new_agent(sojourn)
    options = ("--name", "nightly", "--agent", agent, "--message", "hello", "--cron", "0 3 * * 1-5")
    created = await sojourn("schedules", "create", *options, "--timezone", "Europe/Berlin")
    id = created.out.strip()

    assert created.code == 0, created.err
    assert id.startswith("depl_")
    assert "runs next at" in created.err

    shown, text = await asyncio.gather(sojourn("schedules", "show", id, "--json"), sojourn("schedules", "show", id))
    assert shown.document["schedule"] == {"type": "cron", "expression": "0 3 * * 1-5", "timezone": "Europe/Berlin"}
    assert "next runs" in text.out

    assert (await sojourn("schedules", "pause", id, "--json")).document["status"] == "paused"
    ran = await sojourn("schedules", "run", id)
    assert ran.out.startswith("sesn_"), ran.err
    await settle(ran.out.strip())
    runs = await sojourn("schedules", "runs", id)
    assert ran.out.strip() in runs.out
    assert (await sojourn("schedules", "unpause", id, "--json")).document["status"] == "active"

    listed = await sojourn("schedules", "list")
    assert listed.out.splitlines()[0].split("\t") == ["id", "name", "status", "schedule", "next run"]
    assert id in listed.out

    assert (await sojourn("schedules", "archive", id)).code == 0
    refused = await sojourn("schedules", "run", id)
    assert refused.code == 4
    assert "archived" in refused.err


async def test_schedule_from_a_file(sojourn: Any, tmp_path: Path) -> None:
    (tmp_path / "nightly.toml").write_text(TOML.format(agent=await new_agent(sojourn)))

    created = await sojourn("schedules", "create", "nightly.toml", "--json")

    assert created.document["schedule"]["timezone"] == "Europe/Berlin", created.err
    assert len(created.document["upcoming_runs_at"]) == 5


async def test_wrong_schedules_are_refused(sojourn: Any) -> None:
    some = ("schedules", "create", "--name", "x", "--agent", "agent_1", "--message", "hello")
    half, cron, zone, lost, missing = await asyncio.gather(
        sojourn("schedules", "create", "--name", "x"),
        sojourn(*some, "--cron", "0 3 * *"),
        sojourn(*some, "--timezone", "UTC"),
        sojourn(*some),
        sojourn("schedules", "show", "depl_nobody"),
    )

    assert (half.code, cron.code, zone.code, lost.code, missing.code) == (2, 2, 2, 3, 3)
    assert "schedule.expression" in cron.err
