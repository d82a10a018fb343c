import asyncio
import socket
from typing import Any

NOWHERE = "127.0.0.1:1"


async def test_help_is_shown(sojourn: Any) -> None:
    asked = (("--help",), ("sessions", "--help"), ("demo", "--help"), ("up", "-h"))

    for ended in await asyncio.gather(*(sojourn(*each) for each in asked)):
        assert ended.code == 0, ended.err
        assert "Usage: sojourn" in ended.out


async def test_version_is_shown(sojourn: Any) -> None:
    assert (await sojourn("--version")).out.startswith("sojourn ")


async def test_wrong_usage_is_one_line(sojourn: Any) -> None:
    wrong = (("nonsense",), ("sessions", "show"), ("sessions", "list", "--limit", "0"), ("up", "--port", "x"))

    for ended in await asyncio.gather(*(sojourn(*each) for each in wrong)):
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1
        assert "--help" in ended.err


async def test_wrong_usage_is_json_for_programs(sojourn: Any) -> None:
    ended = await sojourn("sessions", "show", "--json")

    assert ended.code == 2
    assert ended.error["type"] == "invalid_request_error"


async def test_impossible_owner_is_refused(sojourn: Any) -> None:
    assert (await sojourn("sessions", "list", "--workspace", "a b")).code == 2


async def test_no_server_has_its_own_code(sojourn: Any) -> None:
    ended = await sojourn("sessions", "list", "--json", "--address", NOWHERE)

    assert ended.code == 5
    assert NOWHERE in ended.error["message"]


async def test_unknown_namespace_is_not_ready(sojourn: Any) -> None:
    ended = await sojourn("setup", "--namespace", "nowhere")

    assert ended.code == 5
    assert "nowhere" in ended.err


async def test_setup_changes_nothing_the_second_time(sojourn: Any) -> None:
    ended = await sojourn("setup", "--json")

    assert ended.code == 0
    assert ended.document["registered"] == []
    assert "SojournStatus" in ended.document["present"]


async def test_doctor_without_a_server(sojourn: Any) -> None:
    ended = await sojourn("doctor", "--address", NOWHERE, OPENAI_API_KEY="sk-secret")

    assert ended.code == 5
    assert "missing   server" in ended.out
    assert "sojourn up" in ended.out
    assert "OPENAI_API_KEY" in ended.out
    assert "sk-secret" not in ended.out


async def test_doctor_with_everything(sojourn: Any, runtime: Any) -> None:
    ended = await sojourn("doctor", "--json")

    assert ended.code == 0, ended.out
    assert ended.document["ok"] is True
    states = {check["name"]: check["state"] for check in ended.document["checks"]}
    assert {states[name] for name in ("python", "server", "namespace", "worker")} == {"ok"}


async def test_doctor_misses_the_worker(sojourn: Any) -> None:
    ended = await sojourn("doctor", "--task-queue", "nobody-here")

    assert ended.code == 5
    assert "missing   worker" in ended.out


async def test_taken_port_is_said_before_anything_starts(sojourn: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = await sojourn("up", "--port", str(taken.getsockname()[1]))

    assert ended.code == 4
    assert "--port" in ended.err
