import copy
import inspect
import pickle
from datetime import timedelta

import pytest
from pydantic import JsonValue

import sojourn.types
from sojourn.types import error as errors
from sojourn.types import vault_error as vault_errors
from sojourn.types.error import (
    ActionRequiredError,
    AgentArchivedError,
    AgentExistsError,
    AgentNotFoundError,
    BudgetReachedError,
    CheckpointError,
    ConflictError,
    DeploymentArchivedError,
    DeploymentExistsError,
    DeploymentNotFoundError,
    DeploymentRunNotFoundError,
    EnvironmentArchivedError,
    EnvironmentExistsError,
    EnvironmentInUseError,
    EnvironmentNameTakenError,
    EnvironmentNotFoundError,
    InternalError,
    InvalidRequestError,
    KeyNotFoundError,
    KeyRefusedError,
    ModelNotFoundError,
    NotFoundError,
    PayloadTooLargeError,
    ProviderError,
    SandboxError,
    ServerNotReadyError,
    ServerUnavailableError,
    SessionBusyError,
    SessionClosedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionStateError,
    SojournError,
    StoreMissingError,
    StoreUnavailableError,
    ToolCallNotFoundError,
    ToolCallSettledError,
    ToolNotFoundError,
    ToolTimeoutError,
    TurnInterruptedError,
    VersionConflictError,
    WorkerUnavailableError,
    error_type,
    rebuild,
)
from sojourn.types.session import SessionStatus
from sojourn.types.vault_error import (
    CredentialArchivedError,
    CredentialExistsError,
    CredentialKeyTakenError,
    CredentialLimitError,
    CredentialNotFoundError,
    McpAuthenticationError,
    SecretError,
    VaultArchivedError,
    VaultExistsError,
    VaultKeyMissingError,
    VaultNotFoundError,
    VaultUnavailableError,
)

EXAMPLES: list[SojournError] = [
    CredentialArchivedError("vcrd_1"),
    CredentialExistsError("vcrd_1"),
    CredentialKeyTakenError("https://a.com/mcp", credential_id="vcrd_1"),
    CredentialLimitError("vlt_1", limit=20),
    CredentialNotFoundError("vcrd_1"),
    McpAuthenticationError("https://a.com/mcp", reason="it is over", credential_id="vcrd_1"),
    SecretError("it does not open", fault="unreadable"),
    VaultArchivedError("vlt_1"),
    VaultExistsError("vlt_1"),
    VaultKeyMissingError(),
    VaultNotFoundError("vlt_1"),
    VaultUnavailableError("vlt_1", reason="no worker"),
    SojournError("something"),
    InvalidRequestError("limits: too much", param="limits"),
    InvalidRequestError("budget: used up", param="budget", code="budget_reached"),
    ModelNotFoundError("no provider", param="model"),
    PayloadTooLargeError(3_000_000, limit_bytes=2_000_000),
    ToolNotFoundError("no tool 'x'"),
    NotFoundError("nothing here"),
    AgentNotFoundError("agent_1"),
    AgentNotFoundError("agent_1", version=3),
    DeploymentNotFoundError("depl_1"),
    DeploymentRunNotFoundError("drun_1"),
    EnvironmentNotFoundError("env_1"),
    KeyNotFoundError("key_1"),
    SessionNotFoundError("sesn_1"),
    ToolCallNotFoundError("sevt_1"),
    ConflictError("not now"),
    ActionRequiredError(["sevt_1", "sevt_2"]),
    AgentArchivedError("agent_1"),
    AgentExistsError("agent_1"),
    BudgetReachedError("sesn_1"),
    DeploymentArchivedError("depl_1"),
    DeploymentExistsError("depl_1"),
    EnvironmentArchivedError("env_1"),
    EnvironmentExistsError("env_1"),
    EnvironmentInUseError("env_1", sessions=2),
    EnvironmentNameTakenError("python"),
    KeyRefusedError("expired"),
    SessionClosedError("sesn_1", status=SessionStatus.ARCHIVED),
    SessionExistsError("sesn_1"),
    SessionStateError("session is idle"),
    ToolCallSettledError("sevt_1"),
    TurnInterruptedError("interrupted"),
    VersionConflictError("agent_1", expected=1, actual=2),
    ProviderError("overloaded", provider="openai", category="model_overloaded_error"),
    ToolTimeoutError("sevt_1", timeout=timedelta(seconds=1.5)),
    CheckpointError("gone"),
    SandboxError("no sandbox"),
    InternalError("broken"),
    ServerUnavailableError("localhost:7233"),
    ServerNotReadyError("no namespace"),
    SessionBusyError("sesn_1", reason="has taken too much"),
    StoreMissingError(),
    StoreUnavailableError("s3://bucket", reason="forbidden"),
    WorkerUnavailableError("sojourn"),
]

each_error = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def attributes(error: SojournError) -> dict[str, object]:
    return {name: value for name, value in vars(error).items() if name not in ("data", "__notes__")}


def classes() -> set[type[SojournError]]:
    every = (*vars(errors).values(), *vars(vault_errors).values())
    found = (each for each in every if inspect.isclass(each))
    return {each for each in found if issubclass(each, SojournError)}


def test_every_class_has_an_example_here_and_is_exported() -> None:
    assert classes() == {type(error) for error in EXAMPLES}
    assert {each.__name__ for each in classes()} <= set(sojourn.types.__all__)


@each_error
def test_error_crosses_a_process_with_its_attributes(error: SojournError) -> None:
    found = rebuild(error_type(error), str(error), error.data)

    assert type(found) is type(error)
    assert str(found) == str(error)
    assert found.data == error.data
    assert attributes(found) == attributes(error)
    assert {name: type(value) for name, value in attributes(found).items()} == {
        name: type(value) for name, value in attributes(error).items()
    }


@each_error
def test_error_can_be_pickled_and_copied(error: SojournError) -> None:
    for found in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert attributes(found) == attributes(error)


@each_error
def test_data_of_an_error_are_its_attributes(error: SojournError) -> None:
    assert {name: getattr(error, name) for name in error.data} == error.data


@each_error
def test_message_is_one_line_without_a_full_stop(error: SojournError) -> None:
    assert "\n" not in str(error)
    assert not str(error).endswith(".")


@pytest.mark.parametrize("kind", sorted(classes(), key=str))
def test_error_rebuilt_without_data_still_has_its_optional_attributes(kind: type[SojournError]) -> None:
    """The log carries only the class and the words of a failed turn."""
    found = rebuild(kind.__name__, "said so", {})

    assert str(found) == "said so"
    if isinstance(found, InvalidRequestError):
        assert found.param is None
    if isinstance(found, ProviderError):
        assert (found.provider, found.category) == (None, None)


def test_class_of_a_newer_release_becomes_the_base() -> None:
    data: dict[str, JsonValue] = {"planet": "mars"}

    found = rebuild("OutOfOxygenError", "open a window", data)

    assert type(found) is SojournError
    assert str(found) == "open a window"
    assert found.data == data


def test_kinds_are_the_families_of_the_design() -> None:
    assert {kind.kind for kind in classes()} == {
        "invalid_request_error",
        "not_found_error",
        "authentication_error",
        "conflict_error",
        "provider_error",
        "tool_timeout_error",
        "checkpoint_error",
        "sandbox_error",
        "secret_error",
        "mcp_authentication_failed_error",
        "internal_error",
    }


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (ModelNotFoundError, InvalidRequestError),
        (PayloadTooLargeError, InvalidRequestError),
        (ToolNotFoundError, InvalidRequestError),
        (AgentNotFoundError, NotFoundError),
        (EnvironmentNotFoundError, NotFoundError),
        (KeyNotFoundError, NotFoundError),
        (SessionNotFoundError, NotFoundError),
        (ToolCallNotFoundError, NotFoundError),
        (ActionRequiredError, ConflictError),
        (AgentArchivedError, ConflictError),
        (AgentExistsError, ConflictError),
        (EnvironmentArchivedError, ConflictError),
        (EnvironmentExistsError, ConflictError),
        (EnvironmentInUseError, ConflictError),
        (EnvironmentNameTakenError, ConflictError),
        (SessionClosedError, ConflictError),
        (SessionExistsError, ConflictError),
        (SessionStateError, ConflictError),
        (ToolCallSettledError, ConflictError),
        (TurnInterruptedError, ConflictError),
        (VersionConflictError, ConflictError),
        (ServerUnavailableError, InternalError),
        (ServerNotReadyError, InternalError),
        (SessionBusyError, ConflictError),
        (StoreMissingError, CheckpointError),
        (StoreUnavailableError, InternalError),
        (WorkerUnavailableError, InternalError),
    ],
)
def test_error_is_caught_by_its_family(kind: type[SojournError], family: type[SojournError]) -> None:
    assert issubclass(kind, family)
    assert kind.kind == family.kind


def test_no_error_of_ours_is_taken_for_a_timeout_of_the_caller() -> None:
    assert [kind for kind in classes() if issubclass(kind, TimeoutError | ValueError | RuntimeError)] == []


def test_size_in_a_message_is_readable() -> None:
    error = PayloadTooLargeError(3_000_000, limit_bytes=2_097_152)

    assert str(error).startswith("content of 3,000,000 bytes is over the limit of 2,097,152")
    assert error.param == "content"


def test_list_given_to_an_error_may_change_afterwards() -> None:
    ids = ["sevt_1"]
    error = ActionRequiredError(ids)

    ids.append("sevt_2")

    assert error.event_ids == ["sevt_1"]
    assert error.data == {"event_ids": ["sevt_1"]}
