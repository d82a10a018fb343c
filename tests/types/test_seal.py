import base64
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.types.seal import KEYS_VARIABLE, Sealer, new_keys_line
from sojourn.types.vault_error import SecretError

OLD, NEW = b"o" * 32, b"n" * 32
SEALER = Sealer({"old": OLD})


def line(id: str, key: bytes) -> str:
    return f"{id}:{base64.b64encode(key).decode()}"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(max_size=50))
def test_what_is_sealed_opens_in_its_context(text: str, context: str) -> None:
    assert SEALER.open(SEALER.seal(text, context=context), context=context) == text


@given(st.text(alphabet="abcdef", min_size=6, max_size=30))
def test_the_sealed_text_shows_nothing_of_the_secret_and_is_never_the_same(text: str) -> None:
    first, second = (SEALER.seal(text, context="c") for _ in range(2))

    assert first != second
    assert text not in first


@given(st.text(max_size=20), st.text(max_size=20))
def test_another_context_does_not_open_it(one: str, other: str) -> None:
    sealed = SEALER.seal("secret", context=one)

    if one != other:
        with pytest.raises(SecretError) as error:
            SEALER.open(sealed, context=other)
        assert error.value.fault == "unreadable"


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_byte_does_not_open(place: int, change: int) -> None:
    head, _, data = SEALER.seal("a secret of some length", context="c").rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)))
    raw[place % len(raw)] ^= change

    with pytest.raises(SecretError):
        SEALER.open(f"{head}.{base64.urlsafe_b64encode(raw).decode()}", context="c")


def test_the_first_key_seals_and_all_open() -> None:
    before = SEALER.seal("secret", context="c")
    both = Sealer({"new": NEW, "old": OLD})
    after = both.seal("secret", context="c")

    assert after.startswith("s1.new.")
    assert both.open(before, context="c") == both.open(after, context="c") == "secret"
    with pytest.raises(SecretError) as error:
        SEALER.open(after, context="c")
    assert (error.value.fault, "'new'" in str(error.value)) == ("unknown_key", True)


def test_another_key_of_the_same_name_does_not_open() -> None:
    with pytest.raises(SecretError) as error:
        Sealer({"old": NEW}).open(SEALER.seal("secret", context="c"), context="c")
    assert error.value.fault == "unreadable"


@pytest.mark.parametrize("text", ["", "plain", "s1", "s1.old", "s1.old.", "s1.old.!!", "s2.old.AAAA", "s1.old.AAAA"])
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    with pytest.raises(SecretError):
        SEALER.open(text, context="c")


def test_keys_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    assert Sealer.from_environment() is None

    monkeypatch.setenv(KEYS_VARIABLE, f" {line('new', NEW)} , {line('old', OLD)} ")
    sealer = Sealer.from_environment()

    assert sealer is not None
    assert sealer.seal("x", context="c").startswith("s1.new.")
    assert sealer.open(SEALER.seal("x", context="c"), context="c") == "x"


KEY = base64.b64encode(OLD).decode()


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f":{KEY}",
        f"a b:{KEY}",
        f"a:{KEY},a:{KEY}",
        f"a:{KEY[:20]}",
        "a:",
        "a:!!",
        f"a:{KEY},",
        f"a:{base64.b64encode(b'x' * 16).decode()}",
    ],
)
def test_keys_that_are_written_wrong_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(SecretError) as error:
        Sealer.read(text)

    assert error.value.fault == "keys"
    assert KEY[:12] not in str(error.value)


def test_a_sealer_shows_no_key_and_does_not_travel() -> None:
    shown = repr(Sealer({"new": NEW, "old": OLD}))

    assert shown == "Sealer(new, old)"
    with pytest.raises(TypeError):
        pickle.dumps(SEALER)


def test_a_new_key_can_be_used_at_once() -> None:
    one, other = new_keys_line(), new_keys_line("mine")

    assert other.startswith("mine:")
    assert Sealer.read(f"{one},{other}").open(Sealer.read(one).seal("x", context="c"), context="c") == "x"
    with pytest.raises(SecretError):
        new_keys_line("a b")


def test_a_fingerprint_depends_on_the_key() -> None:
    assert SEALER.fingerprint("x") == SEALER.fingerprint("x")
    assert SEALER.fingerprint("x") not in (SEALER.fingerprint("y"), Sealer({"old": NEW}).fingerprint("x"))
