r"""Lines of shell against rules: a line that is allowed holds nothing else, and what is denied cannot hide."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.types.command import BashPattern, analysed, doubt, units
from sojourn.types.shell import read_line


def allows(pattern: str, line: str) -> bool:
    rule, found = BashPattern(pattern), units(line)
    return rule.is_line(line) or bool(found and all(rule.allows(each) for each in found))


PLAIN = [
    "git",
    "git status",
    "git  status   --short",
    "git status && git log",
    "git status; git log",
    "git status ; git log ;",
    "git log | git cat-file",
    "git log || git status",
    "git status & git log",
    "git status &",
    'git commit -m "a; rm -rf /"',
    "git commit -m 'a && rm -rf /'",
    'git commit -m "it\'s $5 (or | more)"',
    "git commit -m a\\;b",
    "git log --format='%H %s'",
    "git log 2>&1",
    "git log >/dev/null",
    "git log > /dev/null 2>&1",
    "git log 2>/dev/null",
    "git log &>/dev/null",
    "git log < /dev/null",
    "git show HEAD:file",
    'git show "$branch"',
    "git show $branch",
    "git show ${branch}",
    "git add *.py",
    "git add src/[ab]?.py",
    "git log -n $?",
    "git log $(git rev-parse HEAD)",
    'git log "$(git rev-parse HEAD)"',
    "git log $(git rev-parse $(git tag))",
    "git stash@{0}",
    'git checkout -- "a b"',
    "g''it status",
    '"git" status',
    "\\git status",
    'git log --author="A. U. Thor"',
    "git diff HEAD~1",
    "git log @{u}..",
    "git log 'a\\b'",
    "git log a=b",
]


@pytest.mark.parametrize("line", [*PLAIN, "git status\ngit log", "git log \\\n  --short", "git status\n"])
def test_a_line_of_nothing_but_git_is_allowed_to_git(line: str) -> None:
    assert allows("git *", line)
    assert not BashPattern("rm *").concerns(line)


HIDING = [
    "rm x",
    "/bin/rm x",
    "git status; rm x",
    "git status && rm x",
    "git status || rm x",
    "git status | rm x",
    "git status |& rm x",
    "git status & rm x",
    "git status ;rm x",
    "git log $(rm x)",
    'git log "$(rm x)"',
    'git log "a $(git x; rm x) b"',
    "git log `rm x`",
    'git log "`rm x`"',
    "git log $(git log $(rm x))",
    "git log $(echo `rm x`)",
    "git log <(rm x)",
    "git log >(rm x)",
    "git log > >(rm x)",
    "(rm x)",
    "( git status; rm x )",
    "{ rm x; }",
    "{ git status; rm x; }",
    "! rm x",
    "time rm x",
    "git status; time rm x",
    "if rm x; then git status; fi",
    "if git status; then rm x; fi",
    "if git status; then git log; else rm x; fi",
    "while git status; do rm x; done",
    "until git status; do rm x; done",
    "for a in b; do rm x; done",
    "for a in $(rm x); do git log; done",
    "case a in a) rm x;; esac",
    "case a in (a) rm x;; esac",
    "f() { rm x; }; f",
    "f() (rm x); f",
    "function f { rm x; }; f",
    "git() { rm x; }; git status",
    "A=1 rm x",
    "A=1 B=2 rm x",
    "A=$(rm x) git log",
    "A=$(rm x)",
    "A=(rm x); ${A[@]}",
    "git log ${x:-$(rm x)}",
    "git log ${x:=`rm x`}",
    "git log $((a[$(rm x)]))",
    "git log $[a[$(rm x)]]",
    "[[ a == $(rm x) ]]",
    "[[ -n a ]] && rm x",
    "r\\m x",
    "r''m x",
    "'rm' x",
    '"rm" x',
    'r"m" x',
    "$'rm' x",
    "$'\\x72m' x",
    "$'\\162m' x",
    '$"rm" x',
    "$rm x",
    "${rm} x",
    "$a$b",
    "r? x",
    "r* x",
    "[r]m x",
    "/bin/r? x",
    "~/rm x",
    "$(echo rm) x",
    "`echo rm` x",
    "{rm,x}",
    "{rm,-rf,x}",
    "eval rm x",
    'eval "rm x"',
    "eval 'git log; rm x'",
    "eval $x",
    'eval "$(cat f)"',
    'eval ev""al rm x',
    "sh -c 'rm x'",
    'sh -c "rm x"',
    "sh -ec 'rm x'",
    "bash -lc 'git log; rm x'",
    'bash -c "$x"',
    "bash -c 'eval \"rm x\"'",
    "bash --norc -c 'rm x'",
    "/bin/sh -c 'rm x'",
    "zsh -c 'rm x'",
    "dash -c 'rm x'",
    "busybox rm x",
    "busybox sh -c 'rm x'",
    "echo rm x | sh",
    "echo rm x | bash -s",
    "bash < f",
    "bash <<< 'rm x'",
    "source <(echo rm x)",
    ". /dev/stdin",
    ". <(echo rm x)",
    "command rm x",
    "builtin eval rm x",
    "exec rm x",
    "exec -a git rm x",
    "env rm x",
    "env A=1 rm x",
    "env -i rm x",
    "env -S 'rm x'",
    "sudo rm x",
    "sudo -u root rm x",
    "doas rm x",
    "su -c 'rm x'",
    "nohup rm x",
    "nice rm x",
    "nice -n 5 rm x",
    "ionice -c 3 rm x",
    "timeout 5 rm x",
    "timeout -s KILL 5 rm x",
    "stdbuf -o0 rm x",
    "setsid rm x",
    "xargs rm",
    "xargs -I{} rm {}",
    "git ls-files | xargs rm",
    "find . -exec rm {} ;",
    "find . -exec rm {} \\;",
    "find . -exec rm {} +",
    "find . -execdir rm {} ;",
    "find . -ok rm {} ;",
    "find . -exec sh -c 'rm x' ;",
    "watch rm x",
    "watch 'rm x'",
    "parallel rm",
    "strace rm x",
    "flock f rm x",
    "flock f -c 'rm x'",
    "script -c 'rm x' f",
    "ssh host rm x",
    "ssh host 'rm x'",
    "chroot / rm x",
    "unshare rm x",
    "trap 'rm x' EXIT",
    'trap "rm x" DEBUG',
    "alias git=rm",
    "alias git='rm x'; git status",
    "hash -p /bin/rm git",
    "enable -f f.so git",
    "complete -C 'rm x' git",
    "mapfile -C 'rm x' a",
    "printf -v 'a[$(rm x)]' 1",
    "test -v 'a[$(rm x)]'",
    "[ -v 'a[$(rm x)]' ]",
    "read 'a[$(rm x)]'",
    "unset 'a[$(rm x)]'",
    "python -c 'import os; os.remove(\"x\")'",
    'python3 -c "x"',
    'python3 -Bc "x"',
    "perl -e 'unlink \"x\"'",
    "perl -ne 'unlink'",
    "ruby -e 'x'",
    "node -e 'x'",
    "node --eval 'x'",
    "node -p 'x'",
    "php -r 'x'",
    "echo x | python",
    "python -",
    "awk 'BEGIN { system(\"rm x\") }'",
    "awk '{ print | \"rm x\" }'",
    "coproc rm x",
    "git log 'unterminated",
    'git log "unterminated',
    "git log $(unterminated",
    "git log `unterminated",
    "git log ${unterminated",
    "git log (unterminated",
    "git log \\",
]

MORE_HIDING = [
    "git status\nrm x",
    "git status \\\n; rm x",
    "r\\\nm x",
    "git log # comment\nrm x",
    "git log <<EOF\n$(rm x)\nEOF",
    "git log <<EOF\n`rm x`\nEOF",
    "git log <<'EOF'\nEOF\nrm x",
    "git log <<EOF\nEOF\nrm x",
    "git log <<-EOF\n\tEOF\nrm x",
    "bash <<EOF\nrm x\nEOF",
    "sh <<'EOF'\nrm x\nEOF",
    "cat <<EOF | sh\nrm x\nEOF",
    "echo $((1<<2))\nrm x\n2",
    "echo $[1<<2]\nrm x\n2",
    "git log <<EOF",
    "git log \x00 rm x",
    "git log \x01",
    "git log \ue000",
    '"$(case a in a) echo a;; esac; rm x)"',
    "git log ${a/$(rm x)/b}",
    "git log ${x@P}",
    "git log ${!x}",
]


@pytest.mark.parametrize("line", [*HIDING, *MORE_HIDING])
def test_what_hides_a_command_is_neither_allowed_nor_overlooked(line: str) -> None:
    assert not allows("git *", line)
    assert BashPattern("rm *").concerns(line)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cat > f <<EOF\n$(date)\nEOF", "the shell expands the text of its here document; quote the delimiter, as in"),
        ("cat > f <<EOF\nnever ended", "its here document has no end"),
        ("cat > f <<$END\n$END", "its here document has no plain delimiter"),
        ("python3 - <<'EOF'\nprint()\nEOF", "`python3` gets its program from the line; write the program to a file"),
        ("/usr/bin/python3 -c 'print()'", "`python3` gets its program from the line"),
        ("bash <<'EOF'\nrm x\nEOF", "`bash` reads its commands from its input"),
        ("bash -c 'cat <<EOF\n`rm`\nEOF'", "a text in it that is run cannot be read"),
        ("echo `cat <<EOF`", "its here document has no end"),
        ("$tool x", ""),
        ('eval "$x"', "it runs text that only the shell knows"),
        ("echo 'open", "a quote in it is not closed"),
        ("echo $((1+1))", "it has arithmetic of the shell"),
        ("echo a\x01", "it has control characters"),
        ("true;" * 300, "it has more than 200 commands; make it several calls"),
        ("cat > f <<'EOF'\n$(date)\nEOF", ""),
        ("git log > file", ""),
    ],
)
def test_who_wrote_a_line_that_is_not_understood_is_told_why(line: str, told: str) -> None:
    assert doubt(line).startswith(told)
    assert bool(doubt(line)) is bool(told)


@pytest.mark.parametrize("line", [*HIDING, *MORE_HIDING])
def test_a_line_is_either_understood_or_there_is_a_reason(line: str) -> None:
    assert (analysed(line) is None) is bool(doubt(line))
    assert doubt(line).isprintable()


UNDERSTOOD = [
    "git log > file",
    "git log >> file",
    "git log < file",
    "git log 2> file",
    "git log &> file",
    "git log >| file",
    "git log <> file",
    "git log 3>&1 > file",
    "GIT_SSH_COMMAND=x git fetch",
    "PATH=/tmp git status",
    "git status # a comment",
    "(git status)",
    "{ git status; }",
    "if git status; then git log; fi",
    "! git status",
    "git log {a,b}",
    "git log $'a'",
    "git log ${x:-a}",
    "'git status'",
    "'git x' y",
    '"git x/y" z',
    "echo git status",
    "xgit status",
    "git-evil status",
    "gitk",
    "env git status",
    "sudo git status",
    "command git status",
    "xargs git log",
    "time git status",
    "sh script.sh",
    "find . -name git",
    "echo a; git status",
]


@pytest.mark.parametrize("line", UNDERSTOOD)
def test_what_is_not_plain_is_not_allowed_and_not_denied_either(line: str) -> None:
    assert not allows("git *", line)
    assert not BashPattern("rm *").concerns(line)


@pytest.mark.parametrize(
    "line", ["git rm x", "echo rm x", "echo 'rm x'", "grep -r rm .", "rmdir x", "ls rm", "npm run rm"]
)
def test_the_word_alone_is_not_the_command(line: str) -> None:
    assert not BashPattern("rm *").concerns(line)


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        ("npm test", "npm test", True),
        ("npm test", "npm  test", True),
        ("npm test", "npm test -- --watch", False),
        ("npm test", "npm tests", False),
        ("npm run *", "npm run build", True),
        ("npm run *", "npm run", True),
        ("npm run *", "npm running", False),
        ("git commit -m *", "git commit -m 'a b'", True),
        ("git * main", "git push origin main", True),
        ("git * main", "git push origin main2", False),
        ("git push", "git push; git push", True),
        (r"echo \*", "echo *", True),
        (r"echo \*", "echo a", False),
        ("make && make test", "make && make test", True),
        ("make && make test", "make && make  test", False),
        ("make > log", "make > log", True),
        ("sh -c 'x'", "sh -c 'x'", True),
        ("sh *", "sh script.sh", False),
        ("eval *", "eval x", False),
        ("env *", "env", False),
        ("find *", "find . -name x", True),
        ("find *", "find . -delete", False),
        ("find *", "find . -exec x", False),
        ("ls*", "ls", True),
        ("ls*", "lsof", True),
        ("ls *", "lsof", False),
        ("cat /a/*", "cat $x", False),
        ("cat /a/*", "cat /a/$x", True),
        ("cat /a/b", "cat /a/?", False),
    ],
)
def test_patterns_of_commands(pattern: str, line: str, expected: bool) -> None:
    assert allows(pattern, line) is expected


@pytest.mark.parametrize("line", [r"rm \"a\"", "'rm' \\\"a\\\"", "rm 'x' a"])
def test_what_was_quoted_is_not_what_looks_like_it(line: str) -> None:
    assert not allows('rm "a"', line)
    assert not allows("ls; reboot", "'ls;' reboot")


@pytest.mark.parametrize("line", ["env " * 60 + "x", "(" * 3000, "{" * 40_000, "a;" * 20_000, "$(" * 5000, "`" * 9999])
def test_what_would_take_long_is_opaque_at_once(line: str) -> None:
    assert not allows("git *", line)
    BashPattern("rm *").concerns(line)


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        ("cat /etc/passwd", "cat /etc/passwd", True),
        ("cat /etc/passwd", "cat /etc/pass*", True),
        ("cat /etc/passwd", "cat $x", True),
        ("cat /etc/passwd", "cat /tmp/*", False),
        ("git push *", "git push", True),
        ("git push *", "git pull", False),
        ("git push *", "git $x", True),
        ("git push *", "cd a && git push origin", True),
        ("* --force", "git push --force", True),
        ("curl *", "timeout 5 env A=1 nice curl x", True),
    ],
)
def test_what_a_deny_concerns(pattern: str, line: str, expected: bool) -> None:
    assert BashPattern(pattern).concerns(line) is expected


# --- properties ----------------------------------------------------------------------------------------------------

WORDS = "git rm echo evil EOF x if then fi do eval /dev/null"
MARKS = "; && || | & ( ) { } $( ` \" ' \\ $ ${ # < > << = * !"
PIECES = st.lists(st.sampled_from([*WORDS.split(), *MARKS.split(), " ", " ", "\n"]), max_size=14).map("".join)


@given(PIECES)
def test_reading_a_line_never_fails(line: str) -> None:
    read = read_line(line)

    assert read.opaque is False or read.clean is False or not units(line)
    BashPattern("rm *").concerns(line)


@given(PIECES, st.sampled_from([";", "&&", "||", "|", "&", "\n"]))
def test_nothing_is_allowed_beside_something_else(line: str, operator: str) -> None:
    assert not allows("git *", f"{line}{operator}evil x") or operator == "\n"
    assert not allows("git *", f"evil x{operator}{line}")


@given(PIECES)
def test_a_line_that_is_allowed_contains_no_other_command(line: str) -> None:
    found = units(line)
    if allows("git *", line):
        assert found
        assert all(each.words[0] == "git" for each in found)


@pytest.mark.skipif(shutil.which("bash") is None, reason="compares with the real shell")
def test_the_real_shell_runs_nothing_else_of_what_is_allowed(tmp_path: Path) -> None:
    """Every program but git is missing there, and the shell tells which it would have run."""
    lines = [*PLAIN, *HIDING, *MORE_HIDING, *UNDERSTOOD, *_generated()]
    allowed = [line for line in lines if "\0" not in line and allows("git *", line)]
    assert len(allowed) > 60

    assert _ran(tmp_path, allowed) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["told"]
    # It would tell.
    assert _ran(tmp_path, ["git log $(evil x)"]) == "RAN evil\n"


def _ran(folder: Path, lines: list[str]) -> str:
    told = folder / "told"
    script = "\n".join(
        [
            'command_not_found_handle() { echo "RAN $1" >&3; }',
            "git() { :; }",
            'while IFS= read -r -d "" line; do (eval "$line"); done',
        ]
    )
    subprocess.run(
        ["bash", "--norc", "-c", f"exec 3>{told}; PATH=/nowhere; {script}"],
        input="".join(f"{line}\0" for line in lines).encode(),
        capture_output=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    return told.read_text()


def _generated() -> list[str]:
    pieces = ["git", "evil", ";", "$(git", ")", '"', "'", "\\", "|", "\n", "x", "#", "`", ">", "{", "}", "&&", "$"]
    lines = []
    number = 1
    for _ in range(20_000):
        # A fixed sequence, so that a failure is there in the next run too.
        number = (number * 1103515245 + 12345) % 2**31
        at, words = number, ["git"]
        while at > 1:
            words.append(pieces[at % len(pieces)])
            at //= len(pieces)
        lines.append(" ".join(words))
    return lines
