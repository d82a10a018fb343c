from sojourn.types.error import SessionClosedError
from sojourn.types.session import SessionStatus
from sojourn.workflows.refusal import refuse


def test_refusal_carries_class_words_and_data_and_is_final() -> None:
    error = SessionClosedError("sesn_1", status=SessionStatus.ARCHIVED)

    travelling = refuse(error)

    assert travelling.type == "SessionClosedError"
    assert travelling.message == str(error)
    assert list(travelling.details) == [{"session_id": "sesn_1", "status": "archived"}]
    assert travelling.non_retryable
