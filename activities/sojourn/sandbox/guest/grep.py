"""The op ``grep``, a program of its own: a hostile expression can be ended only together with its process.

It reads one JSON object from standard input and writes what it finds, one line for each match.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from typing import BinaryIO, Iterator, Pattern

from .scratch import FOLDER

LIMIT = 100 * 1024
"""Bytes of results."""
LINE = 2000
"""Characters of a line that are shown."""
FILES = 50_000

SKIPPED = (".git", "node_modules", FOLDER)
"""Folders that are left out unless the path leads into them."""

FOUND, NOTHING, WRONG = 0, 1, 2
"""Exit codes, those of grep."""

_HEAD = 8192
_LONGEST = 1024 * 1024
"""Bytes of a line that are searched."""


class _EnoughError(Exception):
    """There is no room for more."""


class Results:
    """Writes matches, as many as fit.

    Args:
        prefix: What the agent calls the folder that names are relative to.
    """

    def __init__(self, prefix: str, out: BinaryIO) -> None:
        self.count = 0
        self._prefix = prefix
        self._room = LIMIT
        self._out = out

    def add(self, name: str, number: str, text: str) -> None:
        shown = text if len(text) <= LINE else text[:LINE] + " [line cut]"
        data = f"{os.path.join(self._prefix, name)}:{number}:{shown}\n".encode("utf-8", "replace")
        if len(data) > self._room:
            self.note(f"[output truncated at {LIMIT} bytes; narrow the pattern or the path]")
            raise _EnoughError
        self._room -= len(data)
        self.count += 1
        self._out.write(data)

    def note(self, text: str) -> None:
        self._out.write(text.encode() + b"\n")


def search(pattern: str, root: str, prefix: str, out: BinaryIO) -> str | None:
    """Write what matches; an error for people if the pattern is none."""
    folder, name = (root, "") if os.path.isdir(root) else os.path.split(root)
    results = Results(prefix if os.path.isdir(root) else os.path.dirname(prefix), out)
    try:
        if _ripgrep(pattern, folder, name, results):
            return None
        try:
            expression = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            return f"grep: invalid regex: {error}"
        _walk(expression, folder, name, results)
    except _EnoughError:
        return None
    return None


def _ripgrep(pattern: str, folder: str, name: str, results: Results) -> bool:
    """Search with ripgrep; whether it is there and understands the pattern."""
    found = shutil.which("rg")
    if found is None:
        return False
    # It finds what the search below finds, so that the same call tells the same in every sandbox.
    argv = [found, "--no-config", "--hidden", "--no-ignore", "--no-messages", "--color=never", "--sort=path"]
    argv += ["--null", "--line-number", "--with-filename", "--no-heading"]
    for skipped in SKIPPED:
        argv += ["--glob", "!**/" + skipped + "/**"]
    argv += ["-e", pattern, "--", "./" + name]
    with subprocess.Popen(
        argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as rg:
        assert rg.stdout is not None
        try:
            for raw in rg.stdout:
                path, mark, rest = raw.rstrip(b"\r\n").partition(b"\0")
                if not mark:
                    continue  # what it says of binary files
                number, _, text = rest.partition(b":")
                results.add(os.fsdecode(path)[2:], number.decode(), text.decode("utf-8", "replace"))
        except _EnoughError:
            rg.kill()
            raise
    return rg.returncode in (FOUND, NOTHING) or results.count > 0


def _walk(expression: Pattern[str], folder: str, name: str, results: Results) -> None:
    for number, path in enumerate(_files(folder, name)):
        if number >= FILES:
            results.note(f"[only the first {FILES} files were searched; narrow the path]")
            return
        try:
            for line, text in _matches(expression, os.path.join(folder, path)):
                results.add(path, str(line), text)
        except OSError:
            continue  # may not be read, or is gone


def _files(folder: str, name: str) -> Iterator[str]:
    if name:
        yield name
        return
    # In the order of ripgrep: folders among the files, by name.
    waiting = [""]
    while waiting:
        path = waiting.pop()
        if path and not os.path.isdir(os.path.join(folder, path)):
            yield path
        else:
            waiting += [os.path.join(path, each) for each in _entries(os.path.join(folder, path))]


def _entries(folder: str) -> list[str]:
    """What is searched of a folder, last first; nothing of one that may not be read or is a link."""
    if os.path.islink(folder):
        return []
    try:
        return sorted((each for each in os.listdir(folder) if each not in SKIPPED), reverse=True)
    except OSError:
        return []


def _matches(expression: Pattern[str], path: str) -> Iterator[tuple[int, str]]:
    # A link is left out too: what it leads to is searched where it lies, if it is to be searched at all.
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    with open(path, "rb", opener=_unhanging) as file:
        if b"\0" in file.read(_HEAD):
            return
        file.seek(0)
        number, begins = 0, True
        for raw in iter(lambda: file.readline(_LONGEST), b""):
            number += begins
            begins = raw.endswith(b"\n")
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            if expression.search(text):
                yield number, text


def _unhanging(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def main() -> None:
    given = json.load(sys.stdin.buffer)
    values: list[str] = [given["pattern"], given["root"], given["prefix"]]
    wrong = search(values[0], values[1], values[2], sys.stdout.buffer)
    if wrong is not None:
        sys.stderr.buffer.write(wrong.encode("utf-8", "replace"))
        sys.stderr.flush()
    sys.stdout.flush()
    sys.exit(WRONG if wrong is not None else FOUND)
