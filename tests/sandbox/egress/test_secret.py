import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.sandbox.egress.secret import Exchange, Replacer, SecretVariable

PLACE = "sojourn_0123456789abcdef"
VALUE = 'real/"value"+1'


def secret(**changes: object) -> SecretVariable:
    return SecretVariable(**{"name": "TOKEN", "placeholder": PLACE, "value": VALUE, **changes})  # type: ignore[arg-type]


def fed(replacer: Replacer, pieces: list[bytes]) -> bytes:
    return b"".join(map(replacer.feed, pieces)) + replacer.finish()


@given(st.lists(st.sampled_from([b"a", b"ab", b"aab", b"b", b"xx", b""]), max_size=12))
def test_stream_in_pieces_is_replaced_as_the_whole_would_be(pieces: list[bytes]) -> None:
    pairs = {b"aab": b"<1>", b"xx": b"<2>"}

    assert fed(Replacer(pairs), pieces) == Replacer(pairs).replaced(b"".join(pieces))


def test_nothing_is_held_back_that_cannot_become_a_match() -> None:
    replacer = Replacer({b"secret": b"#"})

    assert replacer.feed(b"data: one\n\n") == b"data: one\n\n"
    assert replacer.feed(b"the sec") == b"the "
    assert replacer.feed(b"ond") == b"second"
    assert replacer.feed(b"secr") == b""
    assert replacer.feed(b"et") == b"#"
    assert replacer.finish() == b""


def test_replacer_of_nothing_changes_nothing() -> None:
    assert fed(Replacer({}), [b"a", b"b"]) == b"ab"
    assert Replacer({b"": b"x"}).replaced(b"ab") == b"ab"


def test_header_gets_the_value_wherever_the_placeholder_stands() -> None:
    exchange = Exchange([secret()])

    assert exchange.request_headers([(b"authorization", b"Bearer " + PLACE.encode()), (b"x", b"y")]) == [
        (b"authorization", b"Bearer " + VALUE.encode()),
        (b"x", b"y"),
    ]


def test_basic_credentials_are_decoded_for_it_and_masked_in_the_answer() -> None:
    exchange = Exchange([secret()])
    inside = base64.b64encode(f"user:{PLACE}".encode())
    outside = base64.b64encode(f"user:{VALUE}".encode())

    assert exchange.request_headers([(b"authorization", b"Basic " + inside)]) == [
        (b"authorization", b"Basic " + outside)
    ]
    assert exchange.answer().replaced(b"you sent " + outside) == b"you sent " + inside


@pytest.mark.parametrize("token", [b"not base64!", b"", base64.b64encode(b"user:other")])
def test_other_credentials_stay(token: bytes) -> None:
    assert Exchange([secret()]).request_headers([(b"authorization", b"Basic " + token)]) == [
        (b"authorization", b"Basic " + token)
    ]


def test_placeholder_never_decides_where_a_message_goes() -> None:
    headers = [(b"host", PLACE.encode()), (b"content-length", PLACE.encode())]

    assert Exchange([secret()]).request_headers(headers) == headers


def test_value_that_would_break_a_header_is_not_put_there() -> None:
    header = [(b"x", PLACE.encode())]

    assert Exchange([secret(value="a\r\nEvil: 1")]).request_headers(header) == header


def test_location_says_where_a_value_goes() -> None:
    header = [(b"x", PLACE.encode())]

    assert Exchange([secret(header=False)]).request_headers(header) == header
    assert Exchange([secret(body=False)]).request_body(b"text/plain") is None


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (b"application/json; charset=utf-8", rb"real/\"value\"+1"),
        (b"application/vnd.x+json", rb"real/\"value\"+1"),
        (b"application/x-www-form-urlencoded", b"real%2F%22value%22%2B1"),
        (b"text/plain", VALUE.encode()),
        (b"", VALUE.encode()),
    ],
)
def test_body_gets_the_value_as_its_type_writes_it_and_the_answer_loses_it_in_that_form(
    kind: bytes, written: bytes
) -> None:
    exchange = Exchange([secret()])
    put = exchange.request_body(kind)

    assert put is not None
    assert put.replaced(b"<" + PLACE.encode() + b">") == b"<" + written + b">"
    assert exchange.answer().replaced(b"<" + written + b">") == b"<" + PLACE.encode() + b">"


def test_answer_loses_the_value_in_headers_too() -> None:
    assert Exchange([secret()]).answer_headers([(b"x-echo", b"a" + VALUE.encode())]) == [
        (b"x-echo", b"a" + PLACE.encode())
    ]


def test_short_value_is_not_looked_for_in_answers() -> None:
    assert Exchange([secret(value="abc")]).answer().replaced(b"abc") == b"abc"


def test_secret_goes_to_its_hosts_alone() -> None:
    limited = secret(allowed_hosts=("api.example", "*.wide.example"))

    assert [limited.goes_to(host) for host in ("api.example", "x.wide.example", "wide.example", "evil.example")] == [
        True,
        True,
        False,
        False,
    ]
    assert secret().goes_to("any.example")
    assert not secret(allowed_hosts=()).goes_to("any.example")


@pytest.mark.parametrize("placeholder", ["short", "has space in it 12345", 'quote"0123456789abc'])
def test_placeholder_that_something_might_rewrite_is_a_mistake(placeholder: str) -> None:
    with pytest.raises(ValueError, match="placeholder of 'TOKEN'"):
        secret(placeholder=placeholder)
