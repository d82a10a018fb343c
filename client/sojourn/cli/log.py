"""The log of a process that serves, on standard error: lines for people, or a JSON object on each line."""

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from sojourn.types import InvalidRequestError


class LogFormat(StrEnum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


Level = Annotated[str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")]
Format = Annotated[
    LogFormat,
    typer.Option("--log-format", envvar="SOJOURN_LOG_FORMAT", help="Lines for people, or a JSON object each."),
]

_IDS = (
    "session_id",
    "workspace",
    "agent_id",
    "tool",
    "tool_use_id",
    "step",
    "attempt",
    "task_queue",
    "workflow_id",
    "run_id",
    "request_id",
    "key_id",
    "method",
    "path",
    "status",
    "duration_ms",
)
"""What our own lines and those of Temporal's SDK are about; in this order on every line."""
_SHOWN = ("session_id", "tool_use_id", "step", "attempt", "request_id")


def configure(level: str, format: LogFormat) -> None:
    """Set up Python's logging.

    Raises:
        InvalidRequestError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise InvalidRequestError(f"log level {level!r} is none; use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("sojourn").setLevel(number)


class TextFormatter(logging.Formatter):
    """One line for people, with the ids at its end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s%(ids)s")

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        ids = _ids(record)
        record.ids = "".join(f" {name}={ids[name]}" for name in _SHOWN if name in ids)
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object, always on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
            **getattr(record, "audit", {}),
            **_trace(),
        }
        if record.exc_info:
            line["exc"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _ids(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = {}
    for details in (getattr(record, name, None) for name in ("temporal_workflow", "temporal_activity")):
        if isinstance(details, dict):
            found |= _told_by_temporal(details)
    found |= {name: value for name in _IDS if (value := getattr(record, name, None)) not in (None, "")}
    return {name: found[name] for name in _IDS if name in found}


def _told_by_temporal(details: dict[str, object]) -> dict[str, object]:
    """The ids in what the SDK adds to its own lines and to those of its adapters."""
    workflow_id = str(details.get("workflow_id", ""))
    workspace, _, entity = workflow_id.rpartition("/")
    found: dict[str, object] = {
        "attempt": details.get("attempt"),
        "workflow_id": workflow_id,
        "run_id": details.get("workflow_run_id") or details.get("run_id"),
        "workspace": workspace,
        "agent_id" if entity.startswith("agent_") else "session_id": entity,
    }
    return {name: value for name, value in found.items() if value}


def _trace() -> dict[str, str]:
    if (api := sys.modules.get("opentelemetry.trace")) is None:
        return {}
    here = api.get_current_span().get_span_context()
    return {"trace_id": f"{here.trace_id:032x}", "span_id": f"{here.span_id:016x}"} if here.is_valid else {}
