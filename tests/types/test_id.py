import re

from sojourn.types.id import (
    AgentId,
    SessionId,
    derived_event_id,
    new_agent_id,
    new_event_id,
    new_session_id,
    workflow_id,
)


def test_new_ids_say_what_they_are() -> None:
    assert re.fullmatch(r"agent_[0-9a-f]{32}", new_agent_id())
    assert re.fullmatch(r"sesn_[0-9a-f]{32}", new_session_id())
    assert re.fullmatch(r"sevt_[0-9a-f]{32}", new_event_id())


def test_new_ids_sort_by_time_and_differ() -> None:
    ids = [new_event_id() for _ in range(1000)]

    assert ids == sorted(set(ids))


def test_derived_id_is_frozen() -> None:
    """It is in people's logs: every reader of every release must derive the same one."""
    assert derived_event_id(SessionId("sesn_1"), "7") == "sevt_b1ee196849d85a41acfbc0743808a107"


def test_derived_id_depends_on_session_and_place() -> None:
    ids = {
        derived_event_id(SessionId(session), place) for session in ("sesn_1", "sesn_2") for place in ("1", "u1", "2")
    }

    assert len(ids) == 6


def test_workflow_id_is_workspace_and_id() -> None:
    assert workflow_id("acme", AgentId("agent_1")) == "acme/agent_1"
