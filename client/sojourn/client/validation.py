"""What is refused before anything is stored."""

import asyncio
import re
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from sojourn.types.account import Budget
from sojourn.types.agent import AgentDefinition, AgentToolset
from sojourn.types.content import TextBlock
from sojourn.types.environment import LimitedNetwork, SandboxConfig, SelfHostedConfig
from sojourn.types.error import InvalidRequestError, PayloadTooLargeError
from sojourn.types.event import SystemMessage, UserDefineOutcome, UserEvent, UserMessage, UserToolResult
from sojourn.types.id import AgentId, DeploymentId, DeploymentRunId, EnvironmentId, SessionId, new_event_id
from sojourn.types.payload import inline, limit_bytes
from sojourn.types.price import has_price
from sojourn.types.session import EnvironmentConfig

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_OTHERS = ("agent_", "drun_", "env_")
"""How the ids of what else a workspace holds begin."""
_ENVIRONMENT_ID = re.compile(r"env_[A-Za-z0-9]{1,64}")

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
    if isinstance(event, UserDefineOutcome):
        raise InvalidRequestError(f"{path}.type: outcomes are not supported yet; send a user.message", param=path)
    if isinstance(event, UserToolResult):
        text = "tool results are taken in self-hosted environments only; use user.custom_tool_result"
        raise InvalidRequestError(f"{path}.type: {text}", param=path)


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
    if any(isinstance(tool, AgentToolset) for tool in definition.tools):
        raise InvalidRequestError("tools: the built-in toolset needs a sandbox, which no worker has yet", param="tools")
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
    """Refuse an environment that needs a sandbox, because no worker has one.

    Raises:
        InvalidRequestError: Names the field.
    """
    for name in ("env_vars", "working_dir"):
        if getattr(environment, name):
            raise InvalidRequestError(
                f"environment.{name}: needs a sandbox, which no worker has yet; leave it out",
                param=f"environment.{name}",
            )


def check_environment_id(environment_id: str) -> EnvironmentId:
    """An id of the caller's choosing.

    Raises:
        InvalidRequestError: It holds what an id cannot hold.
    """
    if not _ENVIRONMENT_ID.fullmatch(environment_id):
        text = f"environment_id {environment_id!r}: 'env_' and up to 64 letters or digits; leave it out to get one"
        raise InvalidRequestError(text, param="environment_id")
    return EnvironmentId(environment_id)


def check_sandbox(environment_id: EnvironmentId, config: SandboxConfig) -> None:
    """Refuse a session in an environment that wants what no worker has, rather than ignore what it wants.

    Raises:
        InvalidRequestError: Names the field.
    """
    if isinstance(config, SelfHostedConfig):
        wanted, field = "self-hosted sandboxes are", "type"
    elif config.packages.count:
        wanted, field = "packages are", "packages"
    elif isinstance(config.networking, LimitedNetwork):
        wanted, field = "limited networking is", "networking"
    else:
        return
    raise InvalidRequestError(
        f"environment_id: {wanted} not supported yet, and environment {environment_id!r} asks for it in"
        f" config.{field}; use one that asks for nothing",
        param="environment_id",
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
