r"""Patterns of text and of paths: ``*`` is any text, ``\`` takes the next character as it is.

In a path ``*`` and ``?`` stay within one part, and ``**`` is any number of parts.
"""

import posixpath
import re
from dataclasses import dataclass

from sojourn.types.shell import ANY

_MANY = 20_000
"""Steps a comparison may take; beyond it two texts count as possibly equal."""


@dataclass(frozen=True)
class TextGlob:
    """A pattern for one text."""

    parts: tuple[str, ...]
    """What stands between the stars."""

    @classmethod
    def of(cls, text: str) -> "TextGlob":
        """Read a pattern. A backslash at the end stands for itself."""
        parts = [""]
        for found in re.finditer(r"\\(.)|(\*+)|(.)", text, re.DOTALL):
            escaped, stars, char = found.groups()
            if stars:
                parts.append("")
            else:
                parts[-1] += escaped if escaped is not None else char
        return cls(tuple(parts))

    @property
    def is_exact(self) -> bool:
        """Whether it matches one text only."""
        return len(self.parts) == 1

    @property
    def is_any(self) -> bool:
        """Whether it matches every text."""
        return len(self.parts) > 1 and not any(self.parts)

    def matches(self, text: str) -> bool:
        """Whether the whole text is of this form, whatever stands for `ANY` in it."""
        if self.is_exact:
            return text == self.parts[0]
        first, *middle, last = self.parts
        if not (text.startswith(first) and text.endswith(last)) or len(text) < len(first) + len(last):
            return False
        at, stop = len(first), len(text) - len(last)
        for part in middle:
            found = text.find(part, at, stop)
            if found < 0:
                return False
            at = found + len(part)
        return True

    def may_match(self, text: str) -> bool:
        """Whether the text could be of this form, if `ANY` in it is what it should be."""
        if ANY not in text:
            return self.matches(text)
        pattern = ANY.join(self.parts)
        return len(pattern) * len(text) > _MANY or _meet(pattern, text)


def _meet(one: str, other: str) -> bool:
    """Whether two texts with `ANY` in them have a text in common."""
    row = [True] + [False] * len(other)
    for place, char in enumerate(other):
        row[place + 1] = row[place] and char == ANY
    for char in one:
        above, row = row, [row[0] and char == ANY] + [False] * len(other)
        for place, theirs in enumerate(other):
            if char == ANY or theirs == ANY:
                # The star takes one character more, or ends here.
                row[place + 1] = above[place + 1] or row[place] or above[place]
            else:
                row[place + 1] = above[place] and char == theirs
    return row[-1]


def escaped(text: str) -> str:
    """The pattern that matches this text only."""
    return re.sub(r"([\\*?])", r"\\\1", text)


def normal_path(path: str, *, cwd: str, home: str) -> str | None:
    """An absolute path without ``.``, ``..`` and double slashes; ``None`` for one that cannot be told.

    Links are not followed: they are for the sandbox to hold.
    """
    if "\0" in path or not path or (path.startswith("~") and path != "~" and not path.startswith("~/")):
        return None
    if path.startswith("~"):
        path = home + path[1:]
    normal = posixpath.normpath(posixpath.join(cwd, path))
    return "/" + normal.lstrip("/")


@dataclass(frozen=True)
class PathGlob:
    """A pattern for paths that `normal_path` has made."""

    text: str
    """Absolute, and normal as far as that goes with stars in it."""

    @classmethod
    def of(cls, text: str, *, cwd: str, home: str) -> "PathGlob | None":
        """Read a pattern; ``None`` where a ``..`` comes after a star, or there is no such path."""
        normal = normal_path(text, cwd=cwd, home=home)
        if normal is None or re.search(r"(?<!\\)[*?].*/\.\.(/|$)", text, re.DOTALL):
            return None
        return cls(normal)

    @property
    def is_exact(self) -> bool:
        """Whether it matches one path only."""
        return re.search(r"(?<!\\)(\\\\)*[*?]", self.text) is None

    def matches(self, path: str) -> bool:
        """Whether the path is of this form. ``/folder/**`` is the folder too."""
        return re.fullmatch(_path_regex(self.text), path, re.DOTALL) is not None


def _path_regex(text: str) -> str:
    pieces: list[str] = []
    for found in re.finditer(r"\\(.)|(/\*\*)(?=/|$)|(\*+)|(\?)|(.)", text, re.DOTALL):
        escape, deep, star, one, char = found.groups()
        if escape is not None:
            pieces.append(re.escape(escape))
        elif deep:
            pieces.append(r"(?:/[^/]+)*")
        elif star:
            pieces.append(r"[^/]*")
        elif one:
            pieces.append(r"[^/]")
        else:
            pieces.append(re.escape(char))
    return "".join(pieces) or "/"
