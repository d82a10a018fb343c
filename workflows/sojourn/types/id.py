"""Identifiers that travel, and how they are made.

Prefixes are those of Managed Agents: ``agent_``, ``env_``, ``file_``, ``sesn_``, ``sesrsc_``, ``sevt_``, ``vlt_``,
``vcrd_``; API keys have ``key_``. The rest is hexadecimal; new ids are uuid7, so they sort by time. Ids derived from a
position (`derived_event_id`) are uuid5, so every reader finds the same one.
"""

import hashlib
from datetime import UTC, datetime
from typing import NewType
from uuid import UUID, uuid5

import uuid_utils

AgentId = NewType("AgentId", str)
EnvironmentId = NewType("EnvironmentId", str)
KeyId = NewType("KeyId", str)
SessionId = NewType("SessionId", str)
EventId = NewType("EventId", str)
DeploymentId = NewType("DeploymentId", str)
DeploymentRunId = NewType("DeploymentRunId", str)
WorkId = NewType("WorkId", str)
FileId = NewType("FileId", str)
ResourceId = NewType("ResourceId", str)
VaultId = NewType("VaultId", str)
CredentialId = NewType("CredentialId", str)

_NAMESPACE = UUID("5a6f6a6f-7572-5e00-8000-736f6a6f7572")


def new_agent_id() -> AgentId:
    """A fresh agent id. Not for workflow code."""
    return AgentId(f"agent_{uuid_utils.uuid7().hex}")


def new_environment_id() -> EnvironmentId:
    """A fresh environment id. Not for workflow code."""
    return EnvironmentId(f"env_{uuid_utils.uuid7().hex}")


def new_key_id() -> KeyId:
    """A fresh id of an API key. Not for workflow code."""
    return KeyId(f"key_{uuid_utils.uuid7().hex}")


def new_session_id() -> SessionId:
    """A fresh session id. Not for workflow code."""
    return SessionId(f"sesn_{uuid_utils.uuid7().hex}")


def new_event_id() -> EventId:
    """A fresh event id. Not for workflow code."""
    return EventId(f"sevt_{uuid_utils.uuid7().hex}")


def new_deployment_id() -> DeploymentId:
    """A fresh deployment id. Not for workflow code."""
    return DeploymentId(f"depl_{uuid_utils.uuid7().hex}")


def new_deployment_run_id() -> DeploymentRunId:
    """A fresh id of a run that somebody asks for. Not for workflow code."""
    return DeploymentRunId(f"drun_{uuid_utils.uuid7().hex}")


def new_file_id() -> FileId:
    """A fresh id of a file. Not for workflow code."""
    return FileId(f"file_{uuid_utils.uuid7().hex}")


def new_resource_id() -> ResourceId:
    """A fresh id of a session's resource. Not for workflow code."""
    return ResourceId(f"sesrsc_{uuid_utils.uuid7().hex}")


def new_vault_id() -> VaultId:
    """A fresh id of a vault. Not for workflow code."""
    return VaultId(f"vlt_{uuid_utils.uuid7().hex}")


def new_credential_id() -> CredentialId:
    """A fresh id of a credential. Not for workflow code."""
    return CredentialId(f"vcrd_{uuid_utils.uuid7().hex}")


def new_change_id() -> str:
    """A fresh id of a change, short because many are kept. Not for workflow code."""
    return str(uuid_utils.uuid7().hex[16:])


def scheduled_run_prefix(deployment_id: DeploymentId) -> str:
    """How the ids of all runs begin that a schedule starts; the server appends ``-`` and the time they are due."""
    return f"drun_{deployment_id.removeprefix('depl_')}"


def run_workflow_id(workspace: str, run_id: DeploymentRunId) -> str:
    """The Temporal workflow id of a run. Ids of runs by schedule end in their time in hexadecimal.

    Raises:
        ValueError: There can be no such run.
    """
    prefix, mark, at = run_id.partition("-")
    if not mark:
        return f"{workspace}/{run_id}"
    try:
        due = datetime.fromtimestamp(int(at, 16), UTC)
    except (OSError, OverflowError):
        raise ValueError(f"{at!r} is no time") from None
    return f"{workspace}/{prefix}-{due:%Y-%m-%dT%H:%M:%SZ}"


def deployment_run_id(workflow_id: str) -> DeploymentRunId:
    """The way back."""
    prefix, mark, at = workflow_id.rpartition("/")[2].partition("-")
    if not mark:
        return DeploymentRunId(prefix)
    return DeploymentRunId(f"{prefix}-{int(datetime.fromisoformat(at).timestamp()):x}")


def is_scheduled_run(workflow_id: str) -> bool:
    """Whether a run was started by a schedule, as far as its workflow id tells: no other id of a run has a ``-``."""
    return "-" in workflow_id.rpartition("/")[2]


def run_session_id(workflow_id: str) -> SessionId:
    """The session that a run starts, which is the same however often the run is tried."""
    return SessionId(f"sesn_{uuid5(_NAMESPACE, workflow_id).hex}")


def derived_event_id(session_id: SessionId, position: str) -> EventId:
    """The id of an event that was written without one, from its place in the session's log."""
    return EventId(f"sevt_{uuid5(_NAMESPACE, f'{session_id}/{position}').hex}")


def workflow_id(
    workspace: str, entity_id: AgentId | DeploymentId | EnvironmentId | SessionId | VaultId | WorkId
) -> str:
    """The Temporal workflow id of an entity; of a deployment, the id of its schedule."""
    return f"{workspace}/{entity_id}"


def export_workflow_id(workflow_id: str) -> str:
    """The Temporal workflow id of the export of a session that has ended."""
    return f"{workflow_id}/export"


# No workspace has a colon in its name, so nobody's session can take one of these ids.


def key_workflow_id(key_id: KeyId) -> str:
    """The Temporal workflow id of an API key, which must be found without knowing its workspace."""
    return f"sojourn:keys/{key_id}"


def policy_workflow_id(workspace: str) -> str:
    """The Temporal workflow id of the rules of a workspace."""
    return f"sojourn:policies/{workspace}"


def name_workflow_id(workspace: str, name: str) -> str:
    """The Temporal workflow id under which an environment holds its name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"sojourn:names/{workspace}/environments/{digest}"
