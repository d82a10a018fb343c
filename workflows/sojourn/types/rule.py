r"""Rules about tool calls: ``bash(git *)``, ``write(/workspace/**)``, ``mcp__github__*``, ``deploy(stage=test*)``.

A rule names a tool, or tools with ``*``, and may say in brackets what their arguments are. The short form is about the
tool's main argument, the long one names arguments; an object in JSON is all arguments, exactly. A rule that allows
must be sure that it holds; a rule that asks or denies holds as soon as it could.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated, Literal, Protocol

from pydantic import Field, JsonValue, field_validator

from sojourn.types.command import BashPattern, doubt, parts, units
from sojourn.types.glob import PathGlob, TextGlob, escaped, normal_path
from sojourn.types.shell import SimpleCommand
from sojourn.types.url import Url, UrlPattern, exact_url_pattern
from sojourn.types.wire import Wire

Permission = Literal["allow", "ask", "deny"]

MAX_RULE = 32_000
"""Characters of a rule. All rules of a workspace are kept in one memo."""

WORKING_DIR, HOME = "/workspace", "/home/agent"

_MAIN = {
    "bash": "command",
    "read": "file_path",
    "write": "file_path",
    "edit": "file_path",
    "glob": "path",
    "grep": "path",
    "web_fetch": "url",
    "web_search": "query",
    "code_execution": "code",
}
"""What the short form is about."""

_RULE = re.compile(r"([A-Za-z0-9_*?-]{1,128})(?:\((.*)\))?", re.DOTALL)
_NAMED = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)=")
_NEXT = re.compile(r"(?<!\\),\s*(?=[A-Za-z_][A-Za-z0-9_]*=)")


class Rule(Wire):
    """One rule and what it says."""

    rule: Annotated[str, Field(min_length=1, max_length=MAX_RULE)]
    permission: Permission

    @field_validator("rule")
    @classmethod
    def _readable(cls, text: str) -> str:
        read_rule(text)
        return text


@dataclass(frozen=True)
class ToolUse:
    """A call as rules see it."""

    name: str
    input: Mapping[str, JsonValue] = field(default_factory=dict)
    cwd: str = WORKING_DIR
    """What relative paths are relative to."""
    home: str = HOME

    @cached_property
    def units(self) -> tuple[SimpleCommand | None, ...]:
        """What is to be allowed one by one: the simple commands of a line; ``None`` for everything else."""
        line = self.input.get("command") if self.name == "bash" else None
        found = units(line) if isinstance(line, str) else None
        return tuple(found) if found else (None,)

    @property
    def doubt(self) -> str:
        """Why nobody can tell which commands a line of shell runs, and the way out; empty for everything else."""
        return doubt(self._line)

    @property
    def parts(self) -> tuple[str, ...]:
        """The commands of a line of shell that is not plain (redirections, here documents …); else nothing."""
        return parts(self._line)

    @property
    def _line(self) -> str:
        line = self.input.get("command") if self.name == "bash" else None
        return line if isinstance(line, str) else ""


class _Pattern(Protocol):
    @property
    def is_exact(self) -> bool: ...
    def allows(self, value: JsonValue, use: ToolUse, unit: SimpleCommand | None) -> bool: ...
    def concerns(self, value: JsonValue, use: ToolUse) -> bool: ...


@dataclass(frozen=True)
class _Text:
    glob: TextGlob

    @property
    def is_exact(self) -> bool:
        return self.glob.is_exact

    def allows(self, value: JsonValue, use: ToolUse, unit: SimpleCommand | None) -> bool:
        return value is not None and self.glob.matches(_written(value))

    def concerns(self, value: JsonValue, use: ToolUse) -> bool:
        # What is left out takes a default, which nobody here knows.
        return value is None or self.glob.matches(_written(value))


@dataclass(frozen=True)
class _Bash:
    pattern: BashPattern

    @property
    def is_exact(self) -> bool:
        return self.pattern.is_exact

    def allows(self, value: JsonValue, use: ToolUse, unit: SimpleCommand | None) -> bool:
        line = value if value is not None else ""
        if not isinstance(line, str):
            return False
        return self.pattern.is_line(line) or (unit is not None and self.pattern.allows(unit))

    def concerns(self, value: JsonValue, use: ToolUse) -> bool:
        line = value if value is not None else ""
        return not isinstance(line, str) or self.pattern.concerns(line)


@dataclass(frozen=True)
class _Path:
    text: str

    @property
    def is_exact(self) -> bool:
        glob = PathGlob.of(self.text, cwd=WORKING_DIR, home=HOME)
        return glob is not None and glob.is_exact

    def allows(self, value: JsonValue, use: ToolUse, unit: SimpleCommand | None) -> bool:
        path, glob = self._path(value, use), PathGlob.of(self.text, cwd=use.cwd, home=use.home)
        return path is not None and glob is not None and not _leaves(use) and glob.matches(path)

    def concerns(self, value: JsonValue, use: ToolUse) -> bool:
        path, glob = self._path(value, use), PathGlob.of(self.text, cwd=use.cwd, home=use.home)
        if path is None or glob is None or _leaves(use):
            return True
        # What searches a folder reads what is below it.
        return glob.matches(path) or (use.name in ("glob", "grep") and _reaches(path, glob))

    def _path(self, value: JsonValue, use: ToolUse) -> str | None:
        if value is None and use.name in ("glob", "grep"):
            return normal_path(use.cwd, cwd="/", home=use.home)
        return normal_path(value, cwd=use.cwd, home=use.home) if isinstance(value, str) else None


def _leaves(use: ToolUse) -> bool:
    """Whether the pattern of the tool `glob` itself may lead out of its folder."""
    pattern = use.input.get("pattern") if use.name == "glob" else ""
    return not isinstance(pattern, str) or pattern.startswith(("/", "~")) or ".." in pattern


def _reaches(path: str, glob: PathGlob) -> bool:
    """Whether something below the folder could be of the form."""
    fixed = re.split(r"(?<!\\)[*?]", glob.text)[0]
    return (fixed + "/").startswith(path.rstrip("/") + "/") or path.startswith(fixed)


@dataclass(frozen=True)
class _Url:
    pattern: UrlPattern

    @property
    def is_exact(self) -> bool:
        return self.pattern.is_exact

    def allows(self, value: JsonValue, use: ToolUse, unit: SimpleCommand | None) -> bool:
        url = Url.of(value) if isinstance(value, str) else None
        return url is not None and self.pattern.matches(url)

    def concerns(self, value: JsonValue, use: ToolUse) -> bool:
        url = Url.of(value) if isinstance(value, str) else None
        return url is None or self.pattern.matches(url)


@dataclass(frozen=True)
class ReadRule:
    """A rule, read."""

    name: TextGlob
    arguments: tuple[tuple[str, _Pattern], ...] = ()
    whole: str | None = None
    """All arguments as JSON."""

    @property
    def rank(self) -> int:
        """How narrow it is: 0 tools by pattern, 1 a tool, 2 arguments by pattern, 3 these very arguments."""
        if self.whole is not None or (self.arguments and all(pattern.is_exact for _, pattern in self.arguments)):
            return 3
        return 2 if self.arguments else int(self.name.is_exact)

    def allows(self, use: ToolUse, unit: SimpleCommand | None) -> bool:
        """Whether it is sure to hold for a call, or for one simple command of it."""
        if not self._names(use):
            return False
        if self.whole is not None:
            return self.whole == _written(dict(use.input))
        return all(pattern.allows(use.input.get(name), use, unit) for name, pattern in self.arguments)

    def concerns(self, use: ToolUse) -> bool:
        """Whether it could hold for a call."""
        if not self._names(use):
            return False
        if self.whole is not None:
            return self.whole == _written(dict(use.input))
        return all(pattern.concerns(use.input.get(name), use) for name, pattern in self.arguments)

    def _names(self, use: ToolUse) -> bool:
        return self.name.matches(use.name)


@lru_cache(maxsize=4096)
def read_rule(text: str) -> ReadRule:
    """Read a rule.

    Raises:
        ValueError: It is none; the message says what to write.
    """
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no rule; write tool, tool(pattern) or tool(argument=pattern)")
    name, predicate = found.groups()
    glob = TextGlob.of(name.replace("?", "*"))
    if predicate is None or predicate == "*":
        return ReadRule(glob)
    if not glob.is_exact and (met := next((each for each in _MAIN if glob.matches(each)), None)):
        raise ValueError(
            f"{text[:80]!r}: {met!r} is judged in a way of its own; name one tool, or leave the brackets out"
        )
    if (whole := _whole(predicate)) is not None:
        return ReadRule(glob, whole=whole)
    named = _named(name, predicate)
    patterns = tuple((argument, _pattern(name, argument, each)) for argument, each in named if each != "*")
    return ReadRule(glob, patterns)


def _whole(predicate: str) -> str | None:
    if not predicate.startswith("{"):
        return None
    try:
        value = json.loads(predicate)
    except ValueError:
        return None
    return _written(value) if isinstance(value, dict) else None


def _named(name: str, predicate: str) -> list[tuple[str, str]]:
    main = _MAIN.get(name)
    first = _NAMED.match(predicate)
    # A line of shell may begin with an assignment.
    if main is not None and not (first and first.group(1) == main):
        return [(main, predicate)]
    if first is None:
        raise ValueError(f"{name}(…): name the arguments, as in {name}(argument=pattern)")
    named: list[tuple[str, str]] = []
    for piece in [predicate] if name == "bash" else _NEXT.split(predicate):
        found = _NAMED.match(piece)
        assert found is not None
        named.append((found.group(1), piece[found.end() :].replace("\\,", ",")))
    return named


def _pattern(tool: str, argument: str, text: str) -> _Pattern:
    if _MAIN.get(tool) != argument or tool == "web_search":
        return _Text(TextGlob.of(text))
    match argument:
        case "command":
            return _Bash(BashPattern(text))
        case "url":
            return _Url(UrlPattern.of(text))
        case "code":
            if not TextGlob.of(text).is_exact:
                raise ValueError("code_execution(…): code cannot be judged by a pattern; write it out, or leave it out")
            return _Text(TextGlob.of(text))
        case _:
            if PathGlob.of(text, cwd=WORKING_DIR, home=HOME) is None:
                raise ValueError(f"{tool}({text[:80]}): no pattern of a path; write one such as {WORKING_DIR}/**")
            return _Path(text)


def _written(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def exact_rule(use: ToolUse) -> Rule | None:
    """The rule that allows this very call: the same command, the same path, the same arguments.

    Returns:
        The rule; ``None`` for a call that is too long to be remembered.
    """
    text = f"{use.name}({_exact(use)})"
    return Rule(rule=text, permission="allow") if len(text) <= MAX_RULE else None


def _exact(use: ToolUse) -> str:
    value = use.input.get(_MAIN.get(use.name, ""))
    if isinstance(value, str):
        if use.name == "bash":
            text = escaped(value)
            return f"\\{text}" if text.startswith("{") or _NAMED.match(text) else text
        path = normal_path(value, cwd=use.cwd, home=use.home)
        if use.name in ("read", "write", "edit") and path is not None:
            return escaped(path)
        if use.name == "web_fetch" and (url := Url.of(value)) is not None:
            return exact_url_pattern(url)
    return _written(dict(use.input))
