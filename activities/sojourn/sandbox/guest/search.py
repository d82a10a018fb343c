"""Finding files: what glob patterns mean, and the op ``glob``."""

from __future__ import annotations

import os
import re
import threading
from typing import Iterator, Mapping, Pattern

from .place import Places, components, failure
from .scratch import FOLDER
from .wire import Arguments, OpError

RESULTS = 200
ENTRIES = 200_000
"""Files and folders that one search looks at."""

SKIPPED = frozenset({".git", FOLDER})
"""Folders that a search leaves out unless its pattern or its path names them."""

_WILD = re.compile(r"[*?\[{]")


class Search:
    """Finds files by their names. Called in threads."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def glob(self, arguments: Arguments, cancelled: threading.Event) -> Mapping[str, object]:
        """The newest paths that match, their ``total``, and whether the search was ``cut`` short."""
        pattern, path = arguments.text("pattern"), arguments.optional_text("path") or "."
        fixed, rest = _split(pattern)
        if fixed:
            path = fixed if fixed.startswith(("/", "~")) else os.path.join(path, fixed)
        root = os.path.normpath(self._places.real(path))
        try:
            os.stat(root)
        except FileNotFoundError:
            if fixed:
                return {"paths": [], "total": 0, "cut": False}
            raise failure("glob", path, FileNotFoundError(2, "")) from None
        except OSError as error:
            raise failure("glob", path, error) from None
        if not rest:
            return {"paths": [self._places.shown(root)], "total": 1, "cut": False}
        walk = _Walk(root, compiled(rest), depth=None if "**" in rest else len(rest), hidden=_skipped(rest))
        found = [match for match in walk.matches(cancelled)]
        found.sort(key=lambda match: (-match[0], match[1]))
        paths = [self._places.shown(os.path.join(root, name)) for _, name in found[:RESULTS]]
        return {"paths": paths, "total": len(found), "cut": walk.cut}


class _Walk:
    """Goes through a folder. Links to folders are not followed: they may lead in a circle.

    Args:
        depth: Levels it goes down; ``None`` for all.
        hidden: Names of folders that are left out.
    """

    def __init__(self, root: str, pattern: Pattern[str], *, depth: int | None, hidden: frozenset[str]) -> None:
        self.cut = False
        self._root = root
        self._pattern = pattern
        self._depth = depth
        self._hidden = hidden

    def matches(self, cancelled: threading.Event) -> Iterator[tuple[float, str]]:
        """Time of the last change and path below the root of what matches."""
        seen = 0
        waiting: list[tuple[str, int]] = [("", 1)]
        while waiting:
            folder, level = waiting.pop()
            for entry in self._entries(folder):
                seen += 1
                if seen > ENTRIES or cancelled.is_set():
                    self.cut = True
                    return
                name = folder + "/" + entry.name if folder else entry.name
                if self._enters(entry, level):
                    waiting.append((name, level + 1))
                if self._pattern.fullmatch(name) and entry.name not in self._hidden:
                    yield _changed(entry), name

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                yield from entries
        except OSError:
            return  # a folder that may not be read, or is gone, has nothing for us

    def _enters(self, entry: os.DirEntry[str], level: int) -> bool:
        if entry.name in self._hidden or (self._depth is not None and level >= self._depth):
            return False
        try:
            return entry.is_dir(follow_symlinks=False)
        except OSError:
            return False


def _changed(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0


def _skipped(parts: list[str]) -> frozenset[str]:
    return SKIPPED - set(parts)


def _split(pattern: str) -> tuple[str, list[str]]:
    """The leading part of a pattern that is a plain path, and the rest."""
    parts = components(pattern)
    plain = 0
    while plain < len(parts) and not _WILD.search(parts[plain]):
        plain += 1
    rest = parts[plain:]
    if ".." in rest:
        raise OpError("invalid", "glob: '..' is not permitted behind a wildcard")
    return ("/" if pattern.startswith("/") else "") + "/".join(parts[:plain]), rest


def compiled(parts: list[str]) -> Pattern[str]:
    """The expression for a pattern's components: ``**`` is any number of folders, ``*`` stays within one name."""
    text = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            text += ".+" if last else "(?:.+/)?"
        else:
            text += _component(part) + ("" if last else "/")
    try:
        return re.compile(text, re.DOTALL)
    except re.error:
        raise OpError("invalid", f"glob: the pattern {'/'.join(parts)!r} cannot be understood") from None


def _component(part: str) -> str:
    text, depth, index = "", 0, 0
    while index < len(part):
        mark = part[index]
        closing = part.find("]", index + 2)
        if mark == "[" and closing > 0:
            text += _set(part[index + 1 : closing])
            index = closing
        elif mark == "{" and "}" in part[index:]:
            text, depth = text + "(?:", depth + 1
        elif mark == "}" and depth:
            text, depth = text + ")", depth - 1
        elif mark == "," and depth:
            text += "|"
        else:
            text += {"*": "[^/]*", "?": "[^/]"}.get(mark, re.escape(mark))
        index += 1
    return text


def _set(inside: str) -> str:
    negated = inside[0] in "!^"
    # Between the brackets only these mean something to an expression that they do not mean to a pattern.
    plain = inside[negated:].replace("\\", "\\\\").replace("[", "\\[").replace("&&", "&\\&").replace("~~", "~\\~")
    return "[" + ("^/" if negated else "") + plain.replace("||", "|\\|") + "]"
