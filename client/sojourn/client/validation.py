"""What is refused before anything is stored."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from sojourn.types.account import Budget
from sojourn.types.agent import AgentDefinition, CodeExecutionTool
from sojourn.types.content import TextBlock
from sojourn.types.environment import SandboxConfig, SelfHostedConfig
from sojourn.types.error import InvalidRequestError, PayloadTooLargeError
from sojourn.types.event import SystemMessage, UserDefineOutcome, UserEvent, UserMessage, UserToolConfirmation
from sojourn.types.id import (
    AgentId,
    CredentialId,
    DeploymentId,
    DeploymentRunId,
    EnvironmentId,
    SessionId,
    VaultId,
    new_event_id,
)
from sojourn.types.payload import inline, limit_bytes
from sojourn.types.price import has_price
from sojourn.types.session import EnvironmentConfig

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_OTHERS = ("agent_", "drun_", "env_", "vlt_")
"""How the ids of what else a workspace holds begin."""
_ENVIRONMENT_ID = re.compile(r"env_[A-Za-z0-9]{1,64}")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")

MAX_EVENTS = 1000
"""Events of one call: together they are one record of history."""


def check_events(events: Sequence[UserEvent], *, path: str = "events") -> list[UserEvent]:
    """The events with ids; those the caller has chosen stay. ``path`` is what errors call the list.

    Raises:
        InvalidRequestError: One is empty or not supported, two share an id, or there are too many.
    """
    if len(events) > MAX_EVENTS:
        raise InvalidRequestError(f"{len(events)} events in one call; send up to {MAX_EVENTS:,}", param=path)
    checked = [event if event.id else event.model_copy(update={"id": new_event_id()}) for event in events]
    for place, event in enumerate(checked):
        _check_event(event, path=f"{path}.{place}")
    if len({event.id for event in checked}) < len(checked):
        raise InvalidRequestError("two events have the same id; leave ids out to get new ones", param=path)
    return checked


def _check_event(event: UserEvent, *, path: str) -> None:
    if isinstance(event, UserMessage | SystemMessage):
        blank = (isinstance(block, TextBlock) and not block.text.strip() for block in event.content)
        if all(blank):
            raise InvalidRequestError(f"{path}.content: the message is empty; write some text", param=f"{path}.content")
    if isinstance(event, UserToolConfirmation) and event.remember is not None and event.result != "allow":
        text = f"{path}.remember: goes with result 'allow' only; to deny for good, add a rule"
        raise InvalidRequestError(text, param=f"{path}.remember")
    if isinstance(event, UserDefineOutcome):
        raise InvalidRequestError(f"{path}.type: outcomes are not supported yet; send a user.message", param=path)


def check_session_id(session_id: str) -> SessionId:
    """An id of the caller's choosing.

    Raises:
        InvalidRequestError: It holds what an id cannot hold.
    """
    if not _SESSION_ID.fullmatch(session_id) or session_id.startswith(_OTHERS):
        allowed = (
            f"up to 128 letters, digits, '.', '_', ':' or '-', not beginning with {' or '.join(map(repr, _OTHERS))}"
        )
        text = f"session_id {session_id!r}: {allowed}; leave it out to get one"
        raise InvalidRequestError(text, param="session_id")
    return SessionId(session_id)


def check_agent_id(agent_id: str) -> AgentId:
    """An id of the caller's choosing.

    Raises:
        InvalidRequestError: It holds what an id cannot hold.
    """
    if not _SESSION_ID.fullmatch(agent_id) or not agent_id.startswith("agent_"):
        allowed = "'agent_' and up to 122 letters, digits, '.', '_', ':' or '-'"
        raise InvalidRequestError(f"agent_id {agent_id!r}: {allowed}; leave it out to get one", param="agent_id")
    return AgentId(agent_id)


def check_deployment_id(deployment_id: str) -> DeploymentId:
    """The same for a deployment."""
    return DeploymentId(_check_id(deployment_id, "depl_", "deployment_id"))


def check_run_id(run_id: str) -> DeploymentRunId:
    """The same for the run of a deployment."""
    return DeploymentRunId(_check_id(run_id, "drun_", "run_id"))


def check_vault_id(vault_id: str) -> VaultId:
    """The same for a vault."""
    return VaultId(_check_id(vault_id, "vlt_", "vault_id"))


def check_credential_id(credential_id: str) -> CredentialId:
    """The same for a credential."""
    return CredentialId(_check_id(credential_id, "vcrd_", "credential_id"))


def _check_id(id: str, prefix: str, param: str) -> str:
    if not re.fullmatch(rf"{prefix}[A-Za-z0-9]{{1,64}}", id):
        text = f"{param} {id!r}: write {prefix!r} and up to 64 letters or digits; leave it out to get one"
        raise InvalidRequestError(text, param=param)
    return id


def check_definition(definition: AgentDefinition) -> None:
    """Refuse what no worker can honour yet, rather than ignore it.

    Raises:
        InvalidRequestError: Names the field.
    """
    for place, server in enumerate(definition.mcp_servers):
        if server.type == "url" and not re.match(r"https?://[^\s/]", server.url):
            field = f"mcp_servers.{place}.url"
            raise InvalidRequestError(f"{field}: {server.url!r} is no http or https URL", param=field)
    if definition.skills:
        raise InvalidRequestError("skills: not supported yet; leave them out", param="skills")


async def check_budget(definition: AgentDefinition, budget: Budget | None) -> None:
    """Refuse a budget that nobody could hold. Whether a scripted model has a price is for its worker to tell.

    Raises:
        InvalidRequestError: The model has no known price.
    """
    # In a thread, because the first look-up imports the table of all models.
    if budget is not None and await asyncio.to_thread(has_price, definition.model) is False:
        text = f"budget: no list price is known for model {str(definition.model)!r}; leave the budget out"
        raise InvalidRequestError(text, param="budget", code="model_not_budgetable")


def check_environment(environment: EnvironmentConfig) -> None:
    """Refuse variables that no program could get, and a working directory that the agent could not write to.

    Raises:
        InvalidRequestError: Names the field.
    """
    for name, value in environment.env_vars.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            text = (
                f"{name[:80]!r} is no variable; letters, digits and '_', not beginning with a digit, and no NUL in it"
            )
            raise InvalidRequestError(f"environment.env_vars: {text}", param="environment.env_vars")
    if environment.working_dir is not None and not _is_working_dir(environment.working_dir):
        text = f"{environment.working_dir[:80]!r}: a path below /workspace, /home/agent or /mnt/session/outputs"
        raise InvalidRequestError(f"environment.working_dir: {text}, without '..'", param="environment.working_dir")


def _is_working_dir(path: str) -> bool:
    parts = PurePosixPath("/workspace") / path
    inside = any(parts.is_relative_to(root) for root in ("/workspace", "/home/agent", "/mnt/session/outputs"))
    return inside and ".." not in parts.parts and path.isprintable() and 0 < len(path) <= 1024


def check_environment_id(environment_id: str) -> EnvironmentId:
    """An id of the caller's choosing.

    Raises:
        InvalidRequestError: It holds what an id cannot hold.
    """
    if not _ENVIRONMENT_ID.fullmatch(environment_id):
        text = f"environment_id {environment_id!r}: 'env_' and up to 64 letters or digits; leave it out to get one"
        raise InvalidRequestError(text, param="environment_id")
    return EnvironmentId(environment_id)


def check_self_hosted(
    definition: AgentDefinition, environment: EnvironmentConfig, sandbox: SandboxConfig | None
) -> None:
    """Refuse what the user's own workers would not know of: they run the tools of the set, as they are set up.

    Raises:
        InvalidRequestError: Names the field.
    """
    if not isinstance(sandbox, SelfHostedConfig):
        return
    for place, tool in enumerate(definition.tools):
        if isinstance(tool, CodeExecutionTool):
            field = f"tools.{place}"
            text = "code_execution does not run in self-hosted environments; use bash of the agent toolset"
            raise InvalidRequestError(f"{field}: {text}", param=field)
    for name in ("env_vars", "working_dir"):
        if getattr(environment, name):
            field = f"environment.{name}"
            raise InvalidRequestError(
                f"{field}: a self-hosted environment is set up by its workers; leave it out", param=field
            )


async def check_size(client: Client, value: object) -> list[Payload]:
    """The value as it goes to the server if it is not kept in the store.

    Raises:
        InvalidRequestError: It holds text that is no text, such as half of a surrogate pair.
        PayloadTooLargeError: Nothing of this size can be stored.
    """
    try:
        payloads = await inline(client).encode([value])
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise InvalidRequestError(f"content: cannot be written as JSON ({error}); send valid Unicode") from None
    size, limit = sum(payload.ByteSize() for payload in payloads), limit_bytes(client)
    if size > limit:
        raise PayloadTooLargeError(size, limit_bytes=limit)
    return payloads


async def check_readable(client: Client, value: object) -> None:
    """`check_size`, and that a workflow which starts from the value will be able to read it.

    Raises:
        InvalidRequestError: It cannot be written, or not be read again: JSON nested hundreds of levels deep.
        PayloadTooLargeError: Nothing of this size can be stored.
    """
    payloads = await check_size(client, value)
    try:
        await inline(client).decode(payloads, [type(value)])
    except ValidationError as error:
        raise InvalidRequestError.from_validation(error) from None
