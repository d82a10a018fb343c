"""Every error a user of sojourn can meet; those about vaults and secrets are in `sojourn.types.vault_error`.

    SojournError
    ├── InvalidRequestError          the request itself is wrong; repeating it does not help
    │   ├── ModelNotFoundError       no provider can be told from the model's name, or its extra is not installed
    │   ├── PayloadTooLargeError     the content is over the server's payload limit
    │   └── ToolNotFoundError        the definition names a tool that the worker does not have
    ├── NotFoundError
    │   ├── AgentNotFoundError
    │   ├── DeploymentNotFoundError
    │   ├── DeploymentRunNotFoundError
    │   ├── EnvironmentNotFoundError
    │   ├── KeyNotFoundError
    │   ├── SessionNotFoundError     unknown, deleted, or another owner's
    │   └── ToolCallNotFoundError    nothing with this id waits for an answer
    ├── ConflictError                right request, wrong state; nothing has changed
    │   ├── ActionRequiredError      the turn waits for an approval or a result that only the caller can give
    │   ├── AgentArchivedError
    │   ├── BudgetReachedError       the turn waits until the session's budget is raised or removed
    │   ├── DeploymentArchivedError
    │   ├── DeploymentExistsError
    │   ├── EnvironmentArchivedError
    │   ├── EnvironmentExistsError
    │   ├── EnvironmentInUseError    sessions refer to it
    │   ├── EnvironmentNameTakenError
    │   ├── AgentExistsError
    │   ├── SessionClosedError
    │   ├── SessionExistsError
    │   ├── SessionStateError        the status machine has no such move
    │   ├── ToolCallSettledError
    │   ├── TurnInterruptedError
    │   └── VersionConflictError
    ├── KeyRefusedError              an API key that is none, or holds no more
    ├── ProviderError                the model's provider failed
    ├── ToolTimeoutError
    ├── CheckpointError              a part of the log cannot be read any more
    ├── SandboxError
    └── InternalError
        ├── ServerUnavailableError   no Temporal server answers
        ├── ServerNotReadyError      the Temporal server lacks what sojourn needs
        ├── StoreUnavailableError    the object store cannot be reached or refuses
        └── WorkerUnavailableError   no worker takes the session's work

Errors travel between processes as Temporal application errors whose ``type`` is the class name (`error_type`) and
whose single detail is `SojournError.data`; `rebuild` is the way back.
"""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import JsonValue

if TYPE_CHECKING:
    from datetime import timedelta

    from pydantic import ValidationError

    from sojourn.types.session import SessionStatus

KeyRefusal = Literal["malformed", "unknown", "wrong_secret", "expired", "revoked"]


class SojournError(Exception):
    """Base of all errors raised by sojourn on purpose. The message is one line that names the way out."""

    kind: ClassVar[str] = "internal_error"
    """Stable name of the family, used on the command line and in JSON."""

    data: dict[str, JsonValue]
    """What the message was derived from; keys are attribute names of the class."""

    def __init__(self, message: str, **data: JsonValue) -> None:
        super().__init__(message)
        self.data = data

    def __reduce__(self) -> tuple[object, ...]:
        return (rebuild, (type(self).__name__, str(self), self.data))

    def _restore(self, data: dict[str, JsonValue]) -> None:
        self.data = data
        for name, value in data.items():
            setattr(self, name, value)


class InvalidRequestError(SojournError):
    """The request is wrong in itself."""

    kind = "invalid_request_error"

    param: str | None = None
    code: str | None = None
    """Tells apart what a caller may want to tell apart, such as ``budget_reached``; most have none."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, **data: JsonValue) -> None:
        super().__init__(message, param=param, **data, **({} if code is None else {"code": code}))
        self.param = param
        if code is not None:
            self.code = code

    @classmethod
    def from_validation(cls, error: "ValidationError", *, whole: str = "body") -> Self:
        """Name the path and the fault of the first wrong field; ``whole`` stands for the path of everything."""
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or whole
        message = first["msg"].removeprefix("Value error, ")
        return cls(f"{path}: {message[:1].lower()}{message[1:]}", param=path)


class ModelNotFoundError(InvalidRequestError):
    """No model can be built from the reference."""


class PayloadTooLargeError(InvalidRequestError):
    """The content does not fit into one payload: 2 MiB, or 32 MiB with an object store."""

    def __init__(self, size_bytes: int, *, limit_bytes: int) -> None:
        super().__init__(
            f"content of {size_bytes:,} bytes is over the limit of {limit_bytes:,}; split it, send a URL,"
            " or give the namespace an object store (`sojourn setup --store URL`) for up to 32 MiB",
            param="content",
            size_bytes=size_bytes,
            limit_bytes=limit_bytes,
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class ToolNotFoundError(InvalidRequestError):
    """The worker has no tool of this name."""


class NotFoundError(SojournError):
    """No such thing, or it belongs to somebody else."""

    kind = "not_found_error"


class AgentNotFoundError(NotFoundError):
    """No agent (or no such version of it) with this id in the workspace."""

    def __init__(self, agent_id: str, *, version: int | None = None) -> None:
        what = f"agent {agent_id!r}" if version is None else f"version {version} of agent {agent_id!r}"
        super().__init__(f"{what} not found; `sojourn agents list` shows what there is", agent_id=agent_id)
        self.agent_id = agent_id


class DeploymentNotFoundError(NotFoundError):
    """No deployment with this id for this owner."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            f"deployment {deployment_id!r} not found; `sojourn schedules list` shows what there is",
            deployment_id=deployment_id,
        )
        self.deployment_id = deployment_id


class DeploymentRunNotFoundError(NotFoundError):
    """No run with this id for this owner, or it was longer ago than the namespace keeps what is over."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"deployment run {run_id!r} not found; `sojourn schedules runs` shows what there is", run_id=run_id
        )
        self.run_id = run_id


class EnvironmentNotFoundError(NotFoundError):
    """No environment with this id in the workspace."""

    def __init__(self, environment_id: str) -> None:
        super().__init__(
            f"environment {environment_id!r} not found; `sojourn environments list` shows what there is",
            environment_id=environment_id,
            code="environment_not_found",
        )
        self.environment_id = environment_id
        self.code = "environment_not_found"


class KeyNotFoundError(NotFoundError):
    """No API key with this id in the workspace."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"key {key_id!r} not found; `sojourn keys list` shows what there is", key_id=key_id)
        self.key_id = key_id


class SessionNotFoundError(NotFoundError):
    """No session with this id for this owner."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} not found; `sojourn sessions list` shows what there is", session_id=session_id
        )
        self.session_id = session_id


class ToolCallNotFoundError(NotFoundError):
    """No tool call with this event id waits for an answer in the session."""

    def __init__(self, tool_use_id: str) -> None:
        super().__init__(
            f"no tool call {tool_use_id!r} waits for an answer; use the event id from the last requires_action",
            tool_use_id=tool_use_id,
        )
        self.tool_use_id = tool_use_id


class ConflictError(SojournError):
    """The request is fine and the state is not; nothing has changed."""

    kind = "conflict_error"


class ActionRequiredError(ConflictError):
    """The turn waits for answers to the tool calls in ``event_ids``; the session goes on when they come."""

    def __init__(self, event_ids: list[str]) -> None:
        super().__init__(
            f"the turn waits for answers to {', '.join(event_ids)}; confirm or answer them and wait again",
            event_ids=list(event_ids),
        )
        self.event_ids = list(event_ids)


class AgentArchivedError(ConflictError):
    """The agent takes no new sessions and no new versions."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"agent {agent_id!r} is archived; create a new one", agent_id=agent_id)
        self.agent_id = agent_id


class BudgetReachedError(ConflictError):
    """The turn stopped because the session's budget is used up; it goes on when that is raised or removed."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} has used up its budget; raise or remove it, and the turn goes on",
            session_id=session_id,
        )
        self.session_id = session_id


class DeploymentArchivedError(ConflictError):
    """The deployment takes no changes and no runs."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"deployment {deployment_id!r} is archived; create a new one", deployment_id=deployment_id)
        self.deployment_id = deployment_id


class DeploymentExistsError(ConflictError):
    """The id of the deployment, or of the run, is taken."""

    def __init__(self, id: str) -> None:
        super().__init__(f"{id!r} exists already; leave the id out to get a new one", id=id)
        self.id = id


class EnvironmentArchivedError(ConflictError):
    """The environment takes no new sessions and no changes."""

    def __init__(self, environment_id: str) -> None:
        super().__init__(
            f"environment {environment_id!r} is archived; create a new one",
            environment_id=environment_id,
            code="environment_archived",
        )
        self.environment_id = environment_id
        self.code = "environment_archived"


class EnvironmentExistsError(ConflictError):
    """The environment id is taken."""

    def __init__(self, environment_id: str) -> None:
        super().__init__(
            f"environment {environment_id!r} exists already; leave the id out to get a new one",
            environment_id=environment_id,
        )
        self.environment_id = environment_id


class EnvironmentInUseError(ConflictError):
    """Sessions refer to the environment, so it cannot be deleted."""

    def __init__(self, environment_id: str, *, sessions: int) -> None:
        super().__init__(
            f"environment {environment_id!r} is used by {sessions:,} session(s); delete them first, or archive it",
            environment_id=environment_id,
            sessions=sessions,
        )
        self.environment_id = environment_id
        self.sessions = sessions


class EnvironmentNameTakenError(ConflictError):
    """Another environment of the workspace has the name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"an environment named {name!r} exists; choose another name, or archive that one", name=name)
        self.name = name


class AgentExistsError(ConflictError):
    """The agent id is taken."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"agent {agent_id!r} exists already; leave the id out to get a new one", agent_id=agent_id)
        self.agent_id = agent_id


class SessionBusyError(ConflictError):
    """More was sent during one step of the agent, or is waiting for its turn, than a session can hold."""

    def __init__(self, session_id: str, *, reason: str) -> None:
        super().__init__(f"session {session_id!r} {reason}", session_id=session_id)
        self.session_id = session_id


class SessionClosedError(ConflictError):
    """The session has ended and takes no more messages."""

    def __init__(self, session_id: str, *, status: "SessionStatus") -> None:
        super().__init__(
            f"session {session_id!r} is {status.value}; start a new one", session_id=session_id, status=status.value
        )
        self.session_id = session_id
        self.status = status

    def _restore(self, data: dict[str, JsonValue]) -> None:
        # Here, because sessions are made of wire types and those raise the errors of this module.
        from sojourn.types.session import SessionStatus

        super()._restore(data)
        if "status" in data:
            self.status = SessionStatus(str(data["status"]))


class SessionExistsError(ConflictError):
    """The session id is taken."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} exists already; leave the id out to get a new one", session_id=session_id
        )
        self.session_id = session_id


class SessionStateError(ConflictError):
    """The status machine has no such move."""


class ToolCallSettledError(ConflictError):
    """The tool call has its answer already."""

    def __init__(self, tool_use_id: str) -> None:
        super().__init__(f"tool call {tool_use_id!r} has its answer already; nothing was changed")
        self.data = {"tool_use_id": tool_use_id}
        self.tool_use_id = tool_use_id


class TurnInterruptedError(ConflictError):
    """The turn that was waited for ended by an interrupt."""


class VersionConflictError(ConflictError):
    """Somebody else changed the agent in the meantime."""

    def __init__(self, agent_id: str, *, expected: int, actual: int) -> None:
        super().__init__(
            f"agent {agent_id!r} is at version {actual}, not {expected}; read it again and repeat the change",
            agent_id=agent_id,
            expected=expected,
            actual=actual,
        )
        self.agent_id = agent_id
        self.expected = expected
        self.actual = actual


class KeyRefusedError(SojournError):
    """The API key opens nothing. The message says no more than that; ``reason`` is for the audit log alone."""

    kind = "authentication_error"

    reason: KeyRefusal = "unknown"

    def __init__(self, reason: KeyRefusal) -> None:
        super().__init__("invalid API key; make one with `sojourn keys create`", reason=reason)
        self.reason = reason


class ProviderError(SojournError):
    """The model's provider failed and the retries are used up, or it refused."""

    kind = "provider_error"

    provider: str | None = None
    category: str | None = None

    def __init__(self, message: str, *, provider: str | None = None, category: str | None = None) -> None:
        super().__init__(message, provider=provider, category=category)
        self.provider = provider
        self.category = category


class ToolTimeoutError(SojournError):
    """A tool or a custom tool's client gave no result in time."""

    kind = "tool_timeout_error"

    def __init__(self, tool_use_id: str, *, timeout: "timedelta") -> None:
        super().__init__(
            f"tool call {tool_use_id!r} gave no result within {timeout.total_seconds():g} s",
            tool_use_id=tool_use_id,
            timeout_seconds=timeout.total_seconds(),
        )
        self.tool_use_id = tool_use_id
        self.timeout_seconds = timeout.total_seconds()


class CheckpointError(SojournError):
    """A part of the session's log cannot be read any more."""

    kind = "checkpoint_error"


class StoreMissingError(CheckpointError):
    """A part of the log is in an object store, and this process has none."""

    def __init__(self) -> None:
        super().__init__(
            "a part of the log is in an object store and this process has none; "
            "set SOJOURN_STORE_URL, or name it once for all with `sojourn setup --store URL`"
        )


class SandboxError(SojournError):
    """The sandbox could not be made or failed."""

    kind = "sandbox_error"


class InternalError(SojournError):
    """Something broke that the caller cannot mend by changing the request."""


class ServerUnavailableError(InternalError):
    """No Temporal server answers at the address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"no Temporal server answers at {address!r}; start one with `sojourn up` or set TEMPORAL_ADDRESS",
            address=address,
        )
        self.address = address


class ServerNotReadyError(InternalError):
    """The namespace lacks what sojourn needs."""


class StoreUnavailableError(InternalError):
    """The object store cannot be reached or refuses. What was accepted is kept; the same call works later."""

    def __init__(self, url: str, *, reason: str) -> None:
        super().__init__(f"the object store {url!r} cannot be used: {reason}", url=url, reason=reason)
        self.url = url
        self.reason = reason


class WorkerUnavailableError(InternalError):
    """No worker serves the task queue. What was sent is stored and is done when one comes."""

    def __init__(self, task_queue: str) -> None:
        super().__init__(
            f"no worker serves task queue {task_queue!r}; start one with `sojourn worker`", task_queue=task_queue
        )
        self.task_queue = task_queue


def _classes(root: type[SojournError]) -> dict[str, type[SojournError]]:
    return {root.__name__: root} | {
        name: found for child in root.__subclasses__() for name, found in _classes(child).items()
    }


def error_type(error: SojournError) -> str:
    """The string that stands for the error's class in a Temporal application error."""
    return type(error).__name__


def rebuild(type_name: str, message: str, data: dict[str, JsonValue]) -> SojournError:
    """Make the error again on the other side of a process boundary.

    A class this release does not know becomes a `SojournError`, so a newer peer can be read.
    """
    found = _classes(SojournError).get(type_name, SojournError)
    error = found.__new__(found)
    Exception.__init__(error, message)
    error._restore(data)
    return error
