import json
from pathlib import Path

import pytest

from sojourn.cli.definition import read_definition
from sojourn.types import InvalidRequestError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'name = "x"\nmodel = "scripted:echo"\n'),
        ("a.yaml", "name: x\nmodel: {provider: scripted, model: echo}\n"),
        ("a.yml", "name: x\nmodel: scripted:echo\n"),
        ("a.json", '{"name": "x", "model": "scripted:echo"}'),
    ],
)
def test_definition_is_read_from_every_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    definition = read_definition(tmp_path / name)

    assert (definition.name, str(definition.model)) == ("x", "scripted:echo")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", 'name = "x"\nmodel = "scripted:echo"\ncolour = 1\n', "colour: extra inputs are not permitted"),
        ("a.yaml", "name: x\nmodel: scripted:echo\nlimits: {max_steps: 0}\n", "limits.max_steps: "),
        ("a.yaml", "", "body: "),
        ("a.json", json.dumps({"name": "x", "model": "nobody"}), "model: no provider known"),
        ("a.json", "{", "no valid JSON"),
        ("a.toml", "=", "no valid TOML"),
        ("a.yaml", "[", "no valid YAML"),
        ("a.txt", "", "a file with '.txt' is not understood"),
    ],
)
def test_wrong_file_is_named_with_the_field(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(InvalidRequestError) as error:
        read_definition(path)

    assert str(error.value).startswith(f"{path}: {message}")
