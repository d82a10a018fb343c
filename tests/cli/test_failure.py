import pytest

from sojourn.cli.failure import ExitCode, exit_code, report
from sojourn.types import (
    InternalError,
    InvalidRequestError,
    ProviderError,
    SandboxError,
    ServerUnavailableError,
    SessionNotFoundError,
    SojournError,
    TurnInterruptedError,
    WorkerUnavailableError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InternalError("x"), 1),
        (SandboxError("x"), 1),
        (InvalidRequestError("x"), 2),
        (SessionNotFoundError("x"), 3),
        (TurnInterruptedError("x"), 4),
        (ServerUnavailableError("x"), 5),
        (WorkerUnavailableError("x"), 5),
        (ProviderError("x"), 6),
    ],
)
def test_every_family_has_its_code(error: SojournError, code: int) -> None:
    assert exit_code(error) == code


def test_unexpected_error_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        1 / 0  # noqa: B018 (it is there to fail)
    except ZeroDivisionError as error:
        code = report(error, as_json=False)

    assert code is ExitCode.INTERNAL
    assert "Traceback" in capsys.readouterr().err


def test_unexpected_error_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code = report(ZeroDivisionError("oh"), as_json=True)

    assert code is ExitCode.INTERNAL
    assert capsys.readouterr().err == '{"error": {"type": "internal_error", "message": "ZeroDivisionError: oh"}}\n'


def test_missing_extra_names_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    code = report(ModuleNotFoundError("no", name="griffe.docstrings"), as_json=False)

    assert code is ExitCode.USAGE
    assert 'pip install "sojourn[worker]"' in capsys.readouterr().err
