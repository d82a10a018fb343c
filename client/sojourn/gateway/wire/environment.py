"""Environments on the wire (Managed Agents API §1.2). What clients write is `sojourn.types.environment` itself."""

from datetime import datetime
from typing import Literal

from sojourn.types.environment import Environment as StoredEnvironment
from sojourn.types.environment import SandboxConfig
from sojourn.types.wire import Wire


class Environment(Wire):
    """An environment."""

    id: str
    type: Literal["environment"] = "environment"
    name: str
    description: str | None
    config: SandboxConfig
    metadata: dict[str, str]
    scope: str
    state: Literal["active", "archived"]
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class DeletedEnvironment(Wire):
    """What is left of an environment."""

    id: str
    type: Literal["environment_deleted"] = "environment_deleted"


def wire_environment(stored: StoredEnvironment) -> Environment:
    """An environment as replies show it."""
    return Environment(**dict(stored), state="archived" if stored.archived_at else "active")
