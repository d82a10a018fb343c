"""How a worker behaves."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from temporalio.worker import WorkerDeploymentConfig

from sojourn.activities.mcp.option import McpOptions
from sojourn.sandbox import Sandbox
from sojourn.types.name import TASK_QUEUE
from sojourn.types.permission import PermissionPolicy
from sojourn.types.seal import Sealer


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker behaves. The defaults suit a laptop and a small server."""

    task_queue: str = TASK_QUEUE
    permissions: PermissionPolicy = field(default_factory=PermissionPolicy)
    """Rules for all sessions that this worker serves, below those of agent and session."""
    max_concurrent_activities: int = 500
    """Model and tool calls at the same time. A waiting model call costs little more than its socket."""
    max_concurrent_workflow_tasks: int = 100
    max_cached_sessions: int = 1000
    """Sessions whose workflow stays in memory (50 to 100 KB each); one that was dropped is replayed when it wakes."""
    max_tool_threads: int = 64
    """Sync tools at the same time."""
    graceful_shutdown: timedelta = timedelta(seconds=10)
    """How long running activities may go on after a stop; then they are cancelled and attempted elsewhere."""
    identity: str | None = None
    """How the worker shows in the Web UI; by default process id and host."""
    deployment: WorkerDeploymentConfig | None = None
    """Temporal's worker versioning (`deployment_config` makes it); ``None`` leaves it off."""
    mcp: McpOptions = field(default_factory=McpOptions)
    """How MCP servers are reached."""
    sealer: Sealer | None = None
    """Opens the secrets of vaults; ``None`` takes the keys of ``SOJOURN_VAULT_KEYS``, once they are needed."""
    sandbox: str | Sandbox | None = None
    """Where agents' commands run: ``auto``, ``bubblewrap``, ``local`` or ``docker``. With ``None`` the worker takes no
    calls of the built-in tools that need one."""
    workspaces: Path | None = None
    """Folder for the files of sessions; ``None`` is ``sojourn/workspaces`` in the user's data folder."""
    cleaning_interval: timedelta = timedelta(minutes=1)
    """How often workspaces of sessions that are over are looked for."""
    sandboxed: bool = False
    """Run workflow code in Temporal's sandbox. Ours is linted and replay-tested, and 1.45 times cheaper without."""
