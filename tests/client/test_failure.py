import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from sojourn.client.failure import STATUS_ERRORS, from_cause, from_status, translated
from sojourn.types import error as errors
from sojourn.types.error import (
    ActionRequiredError,
    AgentArchivedError,
    AgentNotFoundError,
    ConflictError,
    InternalError,
    InvalidRequestError,
    PayloadTooLargeError,
    ProviderError,
    ServerNotReadyError,
    ServerUnavailableError,
    SessionClosedError,
    SessionExistsError,
    SessionNotFoundError,
    SojournError,
    ToolCallNotFoundError,
    ToolCallSettledError,
    VersionConflictError,
    WorkerUnavailableError,
)
from sojourn.types.session import SessionStatus
from sojourn.workflows.refusal import refuse

ADDRESS = "localhost:7233"
MISSING = SessionNotFoundError("sesn_1")
TAKEN = SessionExistsError("sesn_1")

statuses = pytest.mark.parametrize("status", [status for status in RPCStatusCode if status is not RPCStatusCode.OK])


def rpc_error(status: RPCStatusCode, message: str = "as the server says") -> RPCError:
    return RPCError(message, status, b"")


def raised(error: Exception, *, missing: SojournError | None = None, taken: SojournError | None = None) -> SojournError:
    with pytest.raises(SojournError) as found, translated(ADDRESS, missing=missing, taken=taken):
        raise error
    return found.value


def test_table_knows_every_status_but_success() -> None:
    assert set(STATUS_ERRORS) == set(RPCStatusCode) - {RPCStatusCode.OK}


@statuses
def test_every_status_becomes_its_error(status: RPCStatusCode) -> None:
    error = from_status(rpc_error(status), ADDRESS)

    assert type(error) is STATUS_ERRORS[status]


@statuses
def test_every_status_is_translated_in_a_block(status: RPCStatusCode) -> None:
    assert type(raised(rpc_error(status))) is STATUS_ERRORS[status]


def test_unreachable_server_is_named() -> None:
    error = raised(rpc_error(RPCStatusCode.UNAVAILABLE))

    assert isinstance(error, ServerUnavailableError)
    assert error.address == ADDRESS


def test_words_of_the_server_are_kept_in_one_line() -> None:
    assert str(raised(rpc_error(RPCStatusCode.INTERNAL, "this\n  and that"))) == "this and that"


@pytest.mark.parametrize(
    "message",
    [
        "invalid query: unable to resolve search attribute: no mapping defined for search attribute SojournStatus",
        "Namespace default has no mapping defined for search attribute SojournStatus",
        "search attribute SojournStatus is not defined",
    ],
)
def test_namespace_without_search_attributes_leads_to_setup(message: str) -> None:
    error = raised(rpc_error(RPCStatusCode.INVALID_ARGUMENT, message))

    assert isinstance(error, ServerNotReadyError)
    assert "`sojourn setup`" in str(error)


def test_thing_that_does_not_exist_is_the_one_asked_for() -> None:
    assert raised(rpc_error(RPCStatusCode.NOT_FOUND, "workflow not found"), missing=MISSING) is MISSING


def test_namespace_that_does_not_exist_is_not_a_missing_session() -> None:
    error = raised(rpc_error(RPCStatusCode.NOT_FOUND, "Namespace nowhere is not found."), missing=MISSING)

    assert isinstance(error, ServerNotReadyError)
    assert "nowhere" in str(error)


def test_id_that_is_taken_is_told_as_the_caller_wants() -> None:
    started = WorkflowAlreadyStartedError("default/sesn_1", "SessionWorkflow")

    assert raised(started, taken=TAKEN) is TAKEN
    assert type(raised(started)) is ConflictError


def test_errors_of_ours_and_of_others_pass_unchanged() -> None:
    for error in (MISSING, ValueError("x"), TimeoutError()):
        with pytest.raises(type(error)) as found, translated(ADDRESS):
            raise error
        assert found.value is error


def test_temporals_error_is_not_dragged_along() -> None:
    error = raised(rpc_error(RPCStatusCode.INTERNAL))

    assert error.__cause__ is None
    assert error.__suppress_context__


# --- what handlers refuse --------------------------------------------------------------------------------------------


def example(kind: type[SojournError]) -> SojournError:
    """An error of the class, made as its callers make it."""
    special: dict[type[SojournError], SojournError] = {
        ActionRequiredError: ActionRequiredError(["sevt_1"]),
        PayloadTooLargeError: PayloadTooLargeError(3, limit_bytes=2),
        ProviderError: ProviderError("down", provider="openai", category="x"),
        SessionClosedError: SessionClosedError("sesn_1", status=SessionStatus.FAILED),
        VersionConflictError: VersionConflictError("agent_1", expected=1, actual=2),
        AgentNotFoundError: AgentNotFoundError("agent_1"),
        AgentArchivedError: AgentArchivedError("agent_1"),
        errors.EnvironmentInUseError: errors.EnvironmentInUseError("env_1", sessions=2),
        SessionNotFoundError: MISSING,
        errors.DeploymentArchivedError: errors.DeploymentArchivedError("depl_1"),
        errors.DeploymentExistsError: errors.DeploymentExistsError("depl_1"),
        errors.DeploymentNotFoundError: errors.DeploymentNotFoundError("depl_1"),
        errors.DeploymentRunNotFoundError: errors.DeploymentRunNotFoundError("drun_1"),
        errors.SessionBusyError: errors.SessionBusyError("sesn_1", reason="is full"),
        errors.StoreMissingError: errors.StoreMissingError(),
        SessionExistsError: TAKEN,
        ToolCallNotFoundError: ToolCallNotFoundError("sevt_1"),
        ToolCallSettledError: ToolCallSettledError("sevt_1"),
        WorkerUnavailableError: WorkerUnavailableError("sojourn"),
        errors.StoreUnavailableError: errors.StoreUnavailableError("memory://", reason="down"),
        errors.ToolTimeoutError: errors.rebuild(
            "ToolTimeoutError", "late", {"tool_use_id": "sevt_1", "timeout_seconds": 1.5}
        ),
    }
    return special.get(kind) or kind("as it was said")


CLASSES = sorted(
    {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SojournError)}, key=str
)


@pytest.mark.parametrize("kind", CLASSES)
def test_error_refused_by_a_workflow_arrives_as_the_same_error(kind: type[SojournError]) -> None:
    error = example(kind)

    found = raised(WorkflowUpdateFailedError(refuse(error)))

    assert type(found) is kind
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_error_of_a_newer_worker_is_still_ours() -> None:
    found = from_cause(ApplicationError("no air", {"planet": "mars"}, type="OutOfOxygenError"))

    assert type(found) is SojournError
    assert (str(found), found.data) == ("no air", {"planet": "mars"})


@pytest.mark.parametrize("details", [[], ["text"], [None]], ids=str)
def test_error_without_our_data_is_still_of_its_class(details: list[object]) -> None:
    found = from_cause(ApplicationError("wrong", *details, type="InvalidRequestError"))

    assert isinstance(found, InvalidRequestError)
    assert found.param is None


@pytest.mark.parametrize("cause", [None, ValueError("broken"), ApplicationError("broken")], ids=repr)
def test_what_a_handler_did_not_raise_on_purpose_is_internal(cause: BaseException | None) -> None:
    assert type(from_cause(cause)) is InternalError
