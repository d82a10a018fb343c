import ast
import itertools
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox.guest_stand import PROGRAM

from sojourn.sandbox.guest.wire import PIECE, Arguments, LineSplitter, OpError, encode, pieces

MODULES = sorted(PROGRAM.parent.glob("*.py"))


@given(lines=st.lists(st.binary().filter(lambda line: b"\n" not in line)), cuts=st.lists(st.integers(0, 300)))
def test_lines_come_out_whole_however_they_arrive(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    splitter = LineSplitter()

    came = [line for start, end in itertools.pairwise(edges) for line in splitter.feed(stream[start:end])]

    assert came == lines


def test_a_line_over_the_limit_is_dropped_and_the_next_one_is_not() -> None:
    splitter = LineSplitter(limit=4)

    assert list(splitter.feed(b"abc")) == []
    assert list(splitter.feed(b"defgh")) == []
    assert list(splitter.feed(b"ijk\nok\n")) == [None, b"ok"]


def test_raw_bytes_of_a_name_do_not_break_a_line() -> None:
    line = encode({"path": b"caf\xe9".decode("utf-8", "surrogateescape")})

    assert json.loads(line) == {"path": "caf?"}


def test_a_long_text_goes_in_pieces_that_make_it_up() -> None:
    text = "ab" * PIECE

    assert "".join(pieces(text)) == text
    assert max(map(len, pieces(text))) == PIECE


@pytest.mark.parametrize(
    ("values", "ask"),
    [
        ({}, lambda given: given.text("x")),
        ({"x": 1}, lambda given: given.optional_text("x")),
        ({"x": "a"}, lambda given: given.texts("x")),
        ({"x": ["a", 1]}, lambda given: given.texts("x")),
        ({"x": [1, "a"]}, lambda given: given.numbers("x")),
        ({"x": [True]}, lambda given: given.numbers("x")),
        ({"x": 0}, lambda given: given.seconds("x", default=1, most=9)),
        ({"x": 10}, lambda given: given.seconds("x", default=1, most=9)),
        ({"x": True}, lambda given: given.seconds("x", default=1, most=9)),
        ({"x": True}, lambda given: given.whole("x")),
        ({"x": 1}, lambda given: given.flag("x")),
        ({"x": {"a": 1}}, lambda given: given.variables("x")),
        ({"x": []}, lambda given: given.variables("x")),
    ],
)
def test_a_wrong_argument_is_refused(values: dict[str, object], ask: object) -> None:
    assert callable(ask)
    with pytest.raises(OpError) as error:
        ask(Arguments(values))

    assert error.value.kind == "invalid"
    assert error.value.message.startswith("x ")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_the_guest_is_python_3_8_with_the_standard_library_alone(module: Path) -> None:
    tree = ast.parse(module.read_text(), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    absolute = [
        name
        for node in imports
        if isinstance(node, ast.Import) or node.level == 0
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    ]

    assert {name.partition(".")[0] for name in absolute} <= sys.stdlib_module_names | {"__future__"}
