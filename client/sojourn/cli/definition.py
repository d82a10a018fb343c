"""Definitions in files."""

import json
import sys
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from sojourn.types import AgentDefinition, InvalidRequestError, parse

W = TypeVar("W", bound=BaseModel)


def read_definition(path: Path) -> AgentDefinition:
    """Read an agent's definition; see `read_file`."""
    return read_file(AgentDefinition, path)


def read_file(kind: type[W], path: Path) -> W:
    """Read a value from a TOML, YAML or JSON file, strictly; ``-`` is YAML or JSON on standard input.

    Raises:
        InvalidRequestError: Names the file, and the path of the first field that is wrong.
    """
    try:
        return parse(kind, _decode(path.suffix.lower(), _read(path)))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{path}: {error}", param=error.param) from None


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequestError(f"cannot be read ({error.strerror}); name a TOML, YAML or JSON file") from None
    except UnicodeDecodeError:
        raise InvalidRequestError("is no text in UTF-8; name a TOML, YAML or JSON file") from None


def _decode(suffix: str, text: str) -> object:
    match suffix:
        case ".toml":
            return _toml(text)
        case ".json":
            return _json(text)
        case ".yaml" | ".yml" | "":
            return _yaml(text)
        case _:
            raise InvalidRequestError(f"a file with {suffix!r} is not understood; use .toml, .yaml or .json")


def _toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequestError(f"no valid TOML: {error}") from None


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"no valid JSON: {error}") from None


def _yaml(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequestError(f"no valid YAML: {' '.join(str(error).split())}") from None
