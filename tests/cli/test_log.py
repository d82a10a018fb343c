"""What `sojourn worker` writes on standard error."""

import json
import logging
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sojourn.cli.log import JsonFormatter, TextFormatter
from sojourn.client import AgentRuntime
from sojourn.types import AgentDefinition, Limits, ModelRef, Owner, ProviderError

TOOLS = """
import json, os
from sojourn.activities import tool

@tool
async def fail(text: str) -> str:
    "Fail."
    raise ValueError(text)
"""
SECRET = "a-secret-that-nobody-may-see"


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("sojourn.test", logging.WARNING, __file__, 1, "limit met: %s", ("max_steps",), None)
    made.__dict__.update(extra)
    return made


def test_json_line_has_the_ids_that_are_known() -> None:
    line = json.loads(JsonFormatter().format(record(session_id="sesn_1", tool="add", other="left out")))

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "sojourn.test",
        "message": "limit met: max_steps",
        "session_id": "sesn_1",
        "tool": "add",
    }


def test_json_line_of_the_audit_log_has_its_fields() -> None:
    audit = {"operation": "agents.create", "status": 200, "key_id": "key_1", "workspace": "acme"}

    line = json.loads(JsonFormatter().format(record(audit=audit)))

    assert {name: line[name] for name in audit} == audit


def test_lines_of_the_sdk_get_the_same_ids() -> None:
    details = {"workflow_id": "acme/sesn_1", "workflow_run_id": "r1", "attempt": 2, "activity_type": "call_model"}

    line = json.loads(JsonFormatter().format(record(temporal_activity=details)))

    found = {name: line[name] for name in ("session_id", "workspace", "attempt", "workflow_id", "run_id")}
    assert found == {
        "session_id": "sesn_1",
        "workspace": "acme",
        "attempt": 2,
        "workflow_id": "acme/sesn_1",
        "run_id": "r1",
    }


def test_exception_stays_on_the_line() -> None:
    made = record()
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made.exc_info = sys.exc_info()

    text = JsonFormatter().format(made)

    assert "\n" not in text
    assert "ValueError: two\nlines" in json.loads(text)["exc"]


def test_text_line_ends_with_the_ids() -> None:
    assert (
        TextFormatter()
        .format(record(session_id="sesn_1", step="sevt_2"))
        .endswith("limit met: max_steps session_id=sesn_1 step=sevt_2")
    )
    assert TextFormatter().format(record()).endswith("limit met: max_steps")


async def test_format_of_the_log_may_come_from_the_environment(start: Any, environment: dict[str, str]) -> None:
    environment["SOJOURN_LOG_FORMAT"] = "json"
    async with start("worker", "--task-queue", "test-cli-log-variable") as process:
        line = json.loads(await process.stderr.readline())

    assert line["message"] == "worker started; tools: none; sandbox: none"


async def test_worker_logs_a_json_object_on_each_line(
    start: Any, runtime: AgentRuntime, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "my_tools.py").write_text(TOOLS)
    queue = "test-cli-log"
    environment["OPENAI_API_KEY"] = SECRET
    definition = AgentDefinition(
        name="breaker",
        # Nobody listens there.
        model=ModelRef(provider="openai-compatible", model="m", base_url="http://127.0.0.1:9/v1"),
        limits=Limits(model_attempts=2, retry_interval=timedelta(milliseconds=10), on_exhausted="failed"),
    )
    mine = AgentRuntime(runtime.client, owner=Owner("cli", "ada"), task_queue=queue)
    arguments = ("worker", "--tools", "my_tools", "--task-queue", queue, "--log-format", "json", "--json")
    async with start(*arguments) as process:
        await process.stdout.readline()
        session = await mine.start_session(await mine.create(definition))
        with pytest.raises(ProviderError):
            await session.send_and_wait(SECRET)
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
    await mine.close()
    lines = [json.loads(line) for line in err.decode().splitlines()]
    said = [line["message"] for line in lines]

    assert said[0] == "worker started; tools: fail; sandbox: none"
    assert said[-2:] == ["worker draining; running work gets 10 s", "worker stopped"]
    assert lines[0]["task_queue"] == queue
    told = [line for line in lines if line["message"].startswith("model call failed")]
    assert [line["message"] for line in told] == [
        "model call failed: retryable (openai-compatible); next attempt in 0.01 s",
        "model call failed: retryable (openai-compatible); not tried again",
    ]
    for attempt, line in enumerate(told, 1):
        assert (line["session_id"], line["workspace"], line["attempt"]) == (session.id, "cli", attempt)
        assert line["agent_id"].startswith("agent_")
        assert line["step"].startswith("sevt_")
        assert {"workflow_id", "run_id"} <= line.keys()
    assert "limit met: model_attempts" in said
    assert "session failed" in said
    assert SECRET not in err.decode()
