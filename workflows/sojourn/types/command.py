"""Whether a rule about shell commands holds for a line: strictly for what it allows, generously for what it forbids."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sojourn.types.glob import TextGlob
from sojourn.types.shell import ANY, SPACE, ShellLine, SimpleCommand, read_line, word_set

_SHELLS = word_set("sh bash dash ash zsh ksh mksh fish csh tcsh busybox rbash pwsh")
_RUNNERS = word_set(
    "sudo doas env xargs nohup time timeout nice ionice stdbuf setsid command builtin exec chroot unshare nsenter"
    " watch parallel strace ltrace script flock runuser su chrt taskset setarch cpulimit entr ssh fakeroot"
    " systemd-run at batch start-stop-daemon catchsegv valgrind gdb perf dbus-run-session xvfb-run unbuffer"
)
_CODE = word_set("eval source . trap")
_BINDING = word_set(
    "alias unalias enable hash bind complete compgen compopt fc mapfile readarray let declare typeset local export"
    " readonly shopt set"
)
"""Builtins that change what later words mean, or run some of their arguments."""
_HIDING = word_set("alias enable hash bind complete compgen fc mapfile readarray")
_SUBSCRIPTS = word_set("printf test [ read unset wait getopts")
"""Builtins that take names of variables, and run what stands in the brackets of one."""
_INTERPRETERS = re.compile(r"(python|perl|ruby|node|nodejs|php|lua|deno|bun|tclsh|expect|osascript|Rscript)[0-9.]*")
_AWK = word_set("awk gawk mawk nawk")
_INLINE = re.compile(r"-[a-zA-Z]*[ceErp].*|--(eval|print|command|run).*|eval")
_FIND = re.compile(r"-(exec|execdir|ok|okdir|delete|fprint|fprint0|fprintf|fls)")

_SUFFIXES = 64
_DEPTH = 6


class BashPattern:
    """A pattern for the command of the tool `bash`.

    It allows a line if each simple command of it is of this form and the line is of the part of the language that is
    understood; it forbids a line if any command in it could be of this form. A pattern without a star also allows the
    very same line, however that is written.
    """

    def __init__(self, text: str) -> None:
        self._glob = TextGlob.of(text)
        # `git *` is `git` too.
        plain = units(self._glob.parts[0]) if self._glob.is_exact else None
        # Only where nothing is quoted is a text the same as what it says.
        self._may_be_part = not self._glob.is_exact or [each.text for each in plain or ()] == [self._glob.parts[0]]
        self._bare = text[:-2] if text.endswith(" *") and not text.endswith("\\ *") else None

    @property
    def is_exact(self) -> bool:
        """Whether it has no star."""
        return self._glob.is_exact

    def is_line(self, line: str) -> bool:
        """Whether it is this very line."""
        return self._glob.is_exact and self._glob.matches(line)

    def allows(self, command: SimpleCommand) -> bool:
        """Whether one command of a clean line is of this form."""
        if not self._may_be_part or (not self._glob.is_exact and _runs_others(command)):
            return False
        return self._glob.matches(command.text) or (self._bare is not None and command.text == self._bare)

    def concerns(self, line: str) -> bool:
        """Whether any command in the line could be of this form."""
        if self._glob.is_exact and self._glob.matches(line):
            return True
        found = analysed(line)
        return found is None or any(self._meets(text) for text in found)

    def _meets(self, text: str) -> bool:
        return self._glob.may_match(text) or (self._bare is not None and text == self._bare)


def units(line: str) -> list[SimpleCommand] | None:
    """The simple commands of a line that is understood to the end; ``None`` for any other."""
    read = _read(line)
    return None if read.opaque or not read.clean else read.commands


def parts(line: str) -> tuple[str, ...]:
    """The simple commands of a line that is understood and yet not plain, so that no pattern allows it as a whole."""
    read = _read(line)
    return () if read.opaque or read.clean else tuple(each.text for each in read.commands)


def analysed(line: str) -> frozenset[str] | None:
    """All commands that the line could run, as texts; ``None`` if that cannot be told."""
    found = _analysis(line)
    return found if isinstance(found, frozenset) else None


def doubt(line: str) -> str:
    """Why it cannot be told what the line runs, and the way out, for who wrote it; empty where it can be told."""
    found = _analysis(line)
    return found if isinstance(found, str) else ""


@lru_cache(maxsize=64)
def _analysis(line: str) -> frozenset[str] | str:
    """All commands that the line could run; or why that cannot be told."""
    read = _read(line)
    if read.opaque:
        return read.doubt
    try:
        return frozenset(text for command in read.commands for text in _forms(command.words, 0))
    except _OpaqueError as error:
        return str(error)


@lru_cache(maxsize=64)
def _read(line: str) -> ShellLine:
    return read_line(line)


_NESTED = "it runs commands inside of others too deep; make it several calls"
_UNKNOWN = "it runs text that only the shell knows, such as a variable; write the command out"


class _OpaqueError(Exception):
    """Says why, and the way out."""


def _name(word: str) -> str:
    return posixpath.basename(word)


def _runs_others(command: SimpleCommand) -> bool:
    """Whether what it runs is said by its arguments, so that a star would stand for any command."""
    name = _name(command.words[0])
    if name in _SHELLS | _RUNNERS | _CODE | _BINDING or ANY in command.words[0]:
        return True
    if name in _SUBSCRIPTS and _subscripted(command.words):
        return True
    return name == "find" and any(_FIND.match(word) for word in command.words)


def _subscripted(words: Sequence[str]) -> bool:
    names_only = words[0] in ("read", "unset", "wait", "getopts") or "-v" in words
    return any("$(" in word or "`" in word or (names_only and ANY in word) for word in words[1:])


def _forms(words: Sequence[str], depth: int, *, alone: bool = True) -> Iterator[str]:
    """The command as it stands, without the folder of its program, and what it runs in its turn.

    Args:
        words: Of the command.
        depth: How many commands it is inside of.
        alone: Whether nobody else looks at the commands that its later words may be.
    """
    if depth > _DEPTH:
        raise _OpaqueError(_NESTED)
    head, name = words[0], _name(words[0])
    yield " ".join(words)
    if name != head:
        yield " ".join((name, *words[1:]))
    if (
        name in _HIDING
        or (name in _SUBSCRIPTS and _subscripted(words))
        or (name in _AWK and any("system" in word or "|" in word for word in words))
    ):
        raise _OpaqueError(f"`{name}` may run what its arguments hide; leave it out or put it into a script file")
    if name in _SHELLS:
        yield from _of_shell(words, depth, alone=alone)
    elif name in _CODE:
        yield from _of_code(name, words, depth)
    elif _INTERPRETERS.fullmatch(name) and (_inline(words) or _reads_input(words)):
        raise _OpaqueError(f"`{name}` gets its program from the line; write the program to a file and run that file")
    elif not alone:
        return
    elif name in _RUNNERS or ANY in head or (name == "find" and any(_FIND.match(word) for word in words)):
        yield from _of_runner(words, depth)


def _of_shell(words: Sequence[str], depth: int, *, alone: bool) -> Iterator[str]:
    if _name(words[0]) == "busybox" and alone:
        yield from _of_runner(words, depth)
    for place, word in enumerate(words[1:], 1):
        if ANY in word:
            raise _OpaqueError(_UNKNOWN)
        if word.startswith(("-", "+")) and not word.startswith("--"):
            if "c" in word:
                rest = [each for each in words[place + 1 :] if not each.startswith(("-", "+"))]
                return (yield from _of_text(rest[0] if rest else ANY, depth))
            if "s" in word:
                raise _OpaqueError(_fed(words))
        elif not word.startswith("--"):
            # A file: what stands in it is no part of the line.
            return
    raise _OpaqueError(_fed(words))


def _fed(words: Sequence[str]) -> str:
    return f"`{_name(words[0])}` reads its commands from its input; write them as the line itself"


def _of_code(name: str, words: Sequence[str], depth: int) -> Iterator[str]:
    if name in ("source", "."):
        if any(ANY in word or "/dev/" in word or "/proc/" in word for word in words):
            raise _OpaqueError(f"what `{name}` reads is not known; name a file")
        return
    given = " ".join(words[1:]) if name == "eval" else next((each for each in words[1:] if each != "--"), "")
    yield from _of_text(given, depth)


def _of_runner(words: Sequence[str], depth: int) -> Iterator[str]:
    if len(words) > _SUFFIXES:
        raise _OpaqueError(f"a command in it has more than {_SUFFIXES} words; make it several calls")
    for place in range(1, len(words)):
        yield from _forms(words[place:], depth + 1, alone=False)
        if SPACE in words[place]:
            yield from _of_text(words[place], depth)


def _of_text(text: str, depth: int) -> Iterator[str]:
    """What a word runs that is itself a line."""
    # White space in a word has been marked; which it was does not matter as long as it parts words, and a line break
    # parts commands as well.
    if ANY in text:
        raise _OpaqueError(_UNKNOWN)
    for line in (text.replace(SPACE, " "), text.replace(SPACE, "\n")):
        read = read_line(line, depth=depth + 1)
        if read.opaque:
            # Why would be said of a text whose white space is lost.
            raise _OpaqueError("a text in it that is run cannot be read; write it to a file and run that file")
        for command in read.commands:
            yield from _forms(command.words, depth + 1)


def _inline(words: Sequence[str]) -> bool:
    return any(_INLINE.fullmatch(word) for word in words[1:])


def _reads_input(words: Sequence[str]) -> bool:
    return all(word.startswith("-") and word not in ("--version", "-V", "-v", "--help", "-h") for word in words[1:])
