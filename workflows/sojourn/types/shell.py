r"""What a line of shell would run, told without running anything.

This is no shell. Of a line it tells three things: the simple commands in it, wherever they stand (after ``;`` and
``|``, in ``$(…)``, in the branches of an ``if``); whether it is *clean*, that is written in the small part of the
language where these commands are known to be all that happens; and whether it is *opaque*, so that nobody can tell
what it runs. Rules that allow need clean lines, rules that deny look at everything and match what is opaque.

No published parser serves: bashlex is under the GPL, and those that guess on where they do not understand, as editors
need, are of no use to a rule.
"""

import re
from dataclasses import dataclass, field

ANY = "\ue000"
"""Stands for text that only the shell knows: a variable, a glob, the output of a command."""
SPACE = "\ue001"
"""Stands for white space inside a word, so that it cannot pass for the gap between two words."""


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_MARKS = re.compile(f"[{ANY}{SPACE}\x00-\x08\x0b-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[[^\]]*\])?\+?=")
_PLAIN_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_TAME_PARAMETER = re.compile(r"(?!!)[^\[\]`$\"'\\{}@()]*")
_KEYWORDS = word_set("if then elif else fi for while until do done select case in esac { } ! [[ ]]")
_DEPTH = 8

_LENGTH = 50_000
_COMMANDS = 200
"""What is longer or does more is opaque: rules are held against every command, while a worker waits."""

_OPAQUE_WORDS = frozenset({"function", "coproc"})


@dataclass(frozen=True)
class SimpleCommand:
    """One command with its arguments, as far as they are known (`ANY`, `SPACE`)."""

    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The words, with one blank between two."""
        return " ".join(self.words)


@dataclass
class ShellLine:
    """What is known of a line."""

    commands: list[SimpleCommand] = field(default_factory=list)
    clean: bool = True
    doubt: str = ""
    """Why nobody can tell what it runs, and the way out; empty where that can be told."""

    @property
    def opaque(self) -> bool:
        """Whether nobody can tell what it runs."""
        return bool(self.doubt)


def read_line(text: str, *, depth: int = 0) -> ShellLine:
    """Read a line, or several."""
    line = ShellLine()
    try:
        if len(text) > _LENGTH:
            raise _NotUnderstoodError(f"it is longer than {_LENGTH:,} characters; put what is long into a file first")
        if _MARKS.search(text):
            raise _NotUnderstoodError("it has control characters; leave them out")
        if depth > _DEPTH:
            raise _NotUnderstoodError(_NESTED)
        _Reader(text, line, depth).commands(end="")
    except _NotUnderstoodError as error:
        line.clean, line.doubt = False, str(error)
    except RecursionError:
        line.clean, line.doubt = False, _NESTED
    return line


_NESTED = "commands are nested too deep in it; make it several calls"
_ENDLESS = "its here document has no end; write the delimiter on a line of its own"
_UNQUOTED = "a quote in it is not closed; close it"
_UNPAIRED = "brackets in it cannot be paired; make it several calls"
_ARITHMETIC = "it has arithmetic of the shell; compute in a script that is a file"
_EXPANDED = (
    "the shell expands the text of its here document; quote the delimiter, as in <<'EOF', or write the text to a file"
    " with a tool for files"
)


class _NotUnderstoodError(Exception):
    """Says why, and the way out."""


class _Reader:
    def __init__(self, text: str, line: ShellLine, depth: int) -> None:
        self._text = text
        self._at = 0
        self._line = line
        self._depth = depth
        self._nesting = 0
        self._heredocs: list[tuple[str, bool, bool]] = []

    # --- commands --------------------------------------------------------------------------------------------------

    def commands(self, *, end: str) -> None:
        """Read commands up to the closing character; with none, to the end of the text."""
        words: list[tuple[str, bool]] = []
        while True:
            char = self._peek()
            if char == "":
                if end or self._heredocs:
                    raise _NotUnderstoodError(_ENDLESS if self._heredocs else _UNPAIRED)
                return self._finish(words)
            if char == end:
                self._at += 1
                return self._finish(words)
            if self._is_operator(char):
                self._operator(char, words)
                words = []
            elif char in "<>" or (char == "&" and self._ahead(1) == ">"):
                self._redirection(words)
            elif char in " \t":
                self._at += 1
            elif char == "#":
                self._line.clean = False
                self._at = len(self._text) if (stop := self._text.find("\n", self._at)) < 0 else stop
            elif self._text.startswith("\\\n", self._at):
                self._at += 2
            else:
                words.append(self._word())

    def _is_operator(self, char: str) -> bool:
        return char in ";|\n()" or (char == "&" and self._ahead(1) != ">")

    def _operator(self, char: str, words: list[tuple[str, bool]]) -> None:
        if char in "()":
            self._line.clean = False
            if char == "(" and self._ahead(1) == "(":
                raise _NotUnderstoodError(_ARITHMETIC)
            if char == ")" and self._nesting:
                raise _NotUnderstoodError(_UNPAIRED)
        pair = self._text[self._at : self._at + 2]
        self._finish(words)
        if char == "(":
            self._at += 1
            return self._group()
        if pair in (";;", ";&"):
            self._line.clean = False
        self._at += 2 if pair in ("&&", "||", "|&", ";;", ";&") else 1
        if char == "\n":
            self._skip_heredocs()

    def _group(self) -> None:
        self._nesting += 1
        self.commands(end=")")
        self._nesting -= 1

    def _finish(self, words: list[tuple[str, bool]]) -> None:
        """Take the words of one command, without what stands before its name."""
        left = list(words)
        while left:
            word, quoted = left[0]
            if (not quoted and word in _OPAQUE_WORDS) or (word == "case" and self._nesting):
                raise _NotUnderstoodError(f"`{word}` hides commands here; put them into a script that is a file")
            if not (not quoted and word in _KEYWORDS) and not _ASSIGNMENT.match(word):
                break
            self._line.clean = False
            left.pop(0)
        if len(self._line.commands) >= _COMMANDS:
            raise _NotUnderstoodError(f"it has more than {_COMMANDS} commands; make it several calls")
        if left:
            self._line.commands.append(SimpleCommand(tuple(word for word, _ in left)))

    # --- redirections ----------------------------------------------------------------------------------------------

    def _redirection(self, words: list[tuple[str, bool]]) -> None:
        found = re.compile(r"&>>?|<<<|<<-?|<&|>&|<>|>\||>>|<\(|>\(|<|>").match(self._text, self._at)
        assert found is not None
        before = self._text[self._at - 1] if self._at else " "
        if words and before not in " \t" and re.fullmatch("[0-9]+", words[-1][0]) and not words[-1][1]:
            words.pop()
        elif before not in " \t\n;|&()":
            self._line.clean = False
        operator = found.group()
        self._at = found.end()
        if operator in ("<(", ">("):
            self._line.clean = False
            words.append((ANY, True))
            return self._group()
        while self._peek() in (" ", "\t"):
            self._at += 1
        if self._peek() in ("", *";|&\n()<>"):
            raise _NotUnderstoodError("a redirection in it has no target; name one")
        start = self._at
        target, quoted = self._word()
        if operator in ("<<", "<<-"):
            self._line.clean = False
            self._heredoc(self._text[start : self._at], target, quoted, tabs=operator == "<<-")
        elif not (operator in ("<&", ">&") and re.fullmatch(r"\d+-?|-", target)) and target != "/dev/null":
            self._line.clean = False

    def _heredoc(self, raw: str, delimiter: str, quoted: bool, *, tabs: bool) -> None:
        if ANY in delimiter or SPACE in delimiter or "$" in raw or "`" in raw or not delimiter:
            raise _NotUnderstoodError("its here document has no plain delimiter; write a word, as in <<'EOF'")
        self._heredocs.append((delimiter, quoted, tabs))

    def _skip_heredocs(self) -> None:
        for delimiter, quoted, tabs in self._heredocs:
            while True:
                if self._at >= len(self._text):
                    raise _NotUnderstoodError(_ENDLESS)
                stop = self._text.find("\n", self._at)
                stop = len(self._text) if stop < 0 else stop
                body, self._at = self._text[self._at : stop], min(stop + 1, len(self._text))
                if (body.lstrip("\t") if tabs else body) == delimiter:
                    break
                # Joined lines may hide the end, and what is expanded may run something.
                if not quoted and ("`" in body or "$" in body or body.endswith("\\")):
                    raise _NotUnderstoodError(_EXPANDED)
        self._heredocs = []

    # --- words -----------------------------------------------------------------------------------------------------

    def _word(self) -> tuple[str, bool]:
        """The next word, and whether any of it is quoted."""
        pieces: list[str] = []
        quoted = False
        while (char := self._peek()) and char not in " \t\n;|&()<>":
            if char == "'":
                pieces.append(self._single())
                quoted = True
            elif char == '"':
                pieces.append(self._double())
                quoted = True
            elif char == "\\":
                piece = self._escape()
                quoted = quoted or piece != ""
                pieces.append(piece)
            else:
                pieces.append(self._bare(char, first=not pieces))
        return "".join(pieces), quoted

    def _bare(self, char: str, *, first: bool) -> str:
        if char == "$":
            return self._dollar()
        if char == "`":
            return self._backticks()
        self._at += 1
        if char in "*?[" or (char == "~" and first):
            return ANY
        if char == "{" and not (first and self._peek() in ("", *" \t\n;")):
            return self._brace()
        if char == "!" and not (first and self._peek() in (" ", "\t")):
            self._line.clean = False
        return char

    def _brace(self) -> str:
        """What comes after ``{``: several words may come of one, of which nothing is known then."""
        found = re.compile(r"[^\s;|&()<>]{0,500}").match(self._text, self._at)
        rest = found.group() if found else ""
        if not re.search(r"[,{]", rest) and ".." not in rest.partition("}")[0] and len(rest) < 500:
            return "{"
        self._line.clean = False
        return ANY

    def _single(self) -> str:
        stop = self._text.find("'", self._at + 1)
        if stop < 0:
            raise _NotUnderstoodError(_UNQUOTED)
        text, self._at = self._text[self._at + 1 : stop], stop + 1
        return _inner(text)

    def _double(self) -> str:
        self._at += 1
        pieces: list[str] = []
        while (char := self._peek()) != '"':
            if char == "":
                raise _NotUnderstoodError(_UNQUOTED)
            if char == "$":
                pieces.append(self._dollar(quoted=True))
            elif char == "`":
                pieces.append(self._backticks())
            elif char == "\\" and self._ahead(1) in ("$", "`", '"', "\\", "\n"):
                pieces.append("" if self._ahead(1) == "\n" else self._ahead(1))
                self._at += 2
            else:
                pieces.append(_inner(char))
                self._at += 1
        self._at += 1
        return "".join(pieces)

    def _escape(self) -> str:
        char = self._ahead(1)
        if char == "":
            raise _NotUnderstoodError("it ends with a backslash; leave that out")
        self._at += 2
        return "" if char == "\n" else _inner(char)

    def _dollar(self, *, quoted: bool = False) -> str:
        following = self._ahead(1)
        if following == "(":
            if self._ahead(2) == "(":
                raise _NotUnderstoodError(_ARITHMETIC)
            self._at += 2
            held, self._heredocs = self._heredocs, []
            self._group()
            if self._heredocs:
                raise _NotUnderstoodError(_ENDLESS)
            self._heredocs = held
            return ANY
        if following == "{":
            return self._parameter()
        if following == "[":
            raise _NotUnderstoodError(_ARITHMETIC)
        if following in ("'", '"') and not quoted:
            self._line.clean = False
            self._at += 1
            return self._ansi() if following == "'" else self._double()
        found = _PLAIN_PARAMETER.match(self._text, self._at + 1)
        self._at = found.end() if found else self._at + 1
        return ANY if found else "$"

    def _ansi(self) -> str:
        """``$'…'``, where anything may be written as a number."""
        found = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL).match(self._text, self._at)
        if found is None:
            raise _NotUnderstoodError(_UNQUOTED)
        self._at = found.end()
        return ANY

    def _parameter(self) -> str:
        stop = self._text.find("}", self._at)
        content = self._text[self._at + 2 : stop]
        if stop < 0 or not _TAME_PARAMETER.fullmatch(content):
            raise _NotUnderstoodError("it has a `${…}` that may run something; use plain variables")
        if not _PLAIN_PARAMETER.fullmatch(content):
            self._line.clean = False
        self._at = stop + 1
        return ANY

    def _backticks(self) -> str:
        found = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL).match(self._text, self._at)
        if found is None:
            raise _NotUnderstoodError(_UNQUOTED)
        self._at = found.end()
        inside = read_line(re.sub(r"\\([`\\$\"])", r"\1", found.group(1)), depth=self._depth + 1)
        self._line.commands += inside.commands
        self._line.clean = False
        self._line.doubt = self._line.doubt or inside.doubt
        return ANY

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _ahead(self, number: int) -> str:
        return self._text[self._at + number : self._at + number + 1]


def _inner(text: str) -> str:
    return re.sub(r"\s", SPACE, text)
