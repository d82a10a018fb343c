import pytest

from sojourn.types.error import InvalidRequestError
from sojourn.types.session import CallState, Owner, SessionStatus
from sojourn.types.wire import parse


def test_owner_takes_workspace_and_user_in_this_order() -> None:
    owner = Owner("acme", "ada")

    assert (owner.workspace, owner.user) == ("acme", "ada")
    assert owner == Owner(workspace="acme", user="ada")
    assert Owner() == Owner("default", "default")


@pytest.mark.parametrize("workspace", ["", "with space", "a/b", "-a", ".a", "a\n", "ü", "x" * 129])
def test_workspace_that_would_break_a_workflow_id_is_refused(workspace: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(Owner, {"workspace": workspace})

    assert error.value.param == "workspace"


@pytest.mark.parametrize("workspace", ["a", "0", "acme", "Acme.eu_west-1", "x" * 128])
def test_workspace_of_plain_characters_is_taken(workspace: str) -> None:
    assert Owner(workspace).workspace == workspace


@pytest.mark.parametrize("user", ["", " ", "\t\n", "u" * 257])
def test_user_that_is_no_name_is_refused(user: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(Owner, {"user": user})

    assert error.value.param == "user"


@pytest.mark.parametrize("user", ["ada", "ada@acme.test", "Ada L.", "o'hara", "阿达", "u" * 256])
def test_user_may_be_any_name(user: str) -> None:
    assert Owner(user=user).user == user


def test_owner_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(Owner, {"workspace": "acme", "usr": "ada"})

    assert error.value.param == "usr"


def test_exactly_three_statuses_are_final() -> None:
    assert [status.value for status in SessionStatus if status.is_terminal] == ["completed", "failed", "archived"]


@pytest.mark.parametrize(
    ("state", "waits"),
    [
        ({"kind": "function", "permission": "allow"}, False),
        ({"kind": "function", "permission": "ask"}, True),
        ({"kind": "function", "permission": "ask", "approved": True}, False),
        ({"kind": "function", "permission": "ask", "settled": True}, False),
        ({"kind": "custom", "permission": "allow"}, True),
        ({"kind": "custom", "permission": "allow", "settled": True}, False),
    ],
)
def test_carried_call_waits_for_the_client_until_it_is_answered(state: dict[str, object], waits: bool) -> None:
    assert CallState.model_validate({"id": "sevt_1", "name": "t", **state}).waits_for_client is waits
