"""The agent of `sojourn demo coding`, and the script that it answers from where no model is given."""

from collections.abc import Sequence

from pydantic import JsonValue

from sojourn.activities.conversation import ToolResults, UserTurn
from sojourn.activities.model import ModelRequest
from sojourn.testing.coding_site import PAGE, REPOSITORY
from sojourn.testing.scripted import Script, ScriptedCall, ScriptedTurn
from sojourn.types.agent import AgentDefinition, AgentToolset, CodeExecutionTool
from sojourn.types.content import text_of
from sojourn.types.model import ModelRef
from sojourn.types.permission import PermissionPolicy
from sojourn.types.session import EnvironmentConfig

SCRIPT = "coder"
"""Name of the scripted model."""

FOLDER = f"/workspace/{REPOSITORY}"
PATCH = "/mnt/session/outputs/fix.patch"
REFUSED_HOST = "packages.example.com"
"""One that the environment does not allow."""

LOOK = "A unit test of this repository fails. Find out which one and why; change nothing yet."
REPAIR = "Look up how accents are removed in Python, repair the function, and show that all tests pass."
SOAK = "Run the tests a hundred times over, to be sure."
LEAVE = f"Push the branch, and download http://{REFUSED_HOST}/textkit.tar.gz."
COMMIT = f"Commit the repair, and write it as a patch to {PATCH}."
MESSAGES = (LOOK, REPAIR, SOAK, LEAVE, COMMIT)

AUTHOR = EnvironmentConfig(
    working_dir=FOLDER,
    env_vars={
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", "Coding agent"), ("EMAIL", "agent@example.com"))
    },
)
"""Where the agent works, and as whom it commits."""

_TEST = "python3 -B -m unittest"
_BROKEN = "    text = title.lower()\n"
_REPAIRED = (
    '    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()\n    text = plain.lower()\n'
)
_IMPORT, _IMPORTS = "import re\n", "import re\nimport unicodedata\n"
_SUBJECT = "Keep letters with accents"
_NOTES = "# Changes\n\n- `slugify` keeps letters with accents, without their accents.\n"
_TRY = 'import unicodedata\nprint(unicodedata.normalize("NFKD", "Crème Brûlée").encode("ascii", "ignore").decode())'
_HUNDRED = f'for n in $(seq 100); do {_TEST} >/dev/null 2>&1 && echo "pass $n"; done'
_DOWNLOAD = f"""from urllib.error import URLError
from urllib.request import urlopen

try:
    urlopen("http://{REFUSED_HOST}/textkit.tar.gz")
except URLError as error:
    print(error)
"""


def definition(model: str | None = None) -> AgentDefinition:
    """The agent, with the script for its model unless one is given."""
    return AgentDefinition(
        name="coder",
        model=ModelRef.of(model or f"scripted:{SCRIPT}"),
        system=f"You repair programs. The repository is in {FOLDER}. Be brief, and say only what you have seen.",
        tools=(AgentToolset(), CodeExecutionTool()),
        permission_policy=PermissionPolicy.of(ask=["bash(git commit*)"], deny=["bash(git push*)"]),
    )


def _call(name: str, **arguments: JsonValue) -> ScriptedCall:
    return ScriptedCall(name, arguments)


def _steps(message: str, site: str) -> Sequence[ScriptedTurn]:
    """What the agent does after a message."""
    match message:
        case _ if message == LOOK:
            return (
                ScriptedTurn(
                    text="I look around.",
                    calls=(_call("glob", pattern="**/*.py"), _call("grep", pattern="def slugify")),
                ),
                ScriptedTurn(
                    calls=(_call("read", file_path=f"{FOLDER}/textkit/slug.py"), _call("bash", command=_TEST))
                ),
                ScriptedTurn(text="test_accents_are_dropped fails: slugify drops letters with accents altogether."),
            )
        case _ if message == REPAIR:
            edited = f"{FOLDER}/textkit/slug.py"
            return (
                ScriptedTurn(calls=(_call("web_search", query="python remove accents"),)),
                ScriptedTurn(calls=(_call("web_fetch", url=f"{site}{PAGE}"),)),
                ScriptedTurn(text="I try that.", calls=(_call("code_execution", language="python", code=_TRY),)),
                ScriptedTurn(calls=(_call("edit", file_path=edited, old_string=_BROKEN, new_string=_REPAIRED),)),
                ScriptedTurn(
                    calls=(
                        _call(
                            "edit",
                            file_path=edited,
                            old_string=_IMPORT,
                            new_string=_IMPORTS,
                        ),
                        _call("write", file_path=f"{FOLDER}/CHANGES.md", content=_NOTES),
                    )
                ),
                ScriptedTurn(calls=(_call("bash", command=_TEST),)),
                ScriptedTurn(text="Repaired: all tests pass."),
            )
        case _ if message == SOAK:
            return (
                ScriptedTurn(calls=(_call("bash", command=_HUNDRED),)),
                ScriptedTurn(text="That run was cut off; I run them once.", calls=(_call("bash", command=_TEST),)),
                ScriptedTurn(
                    text="How the long run ended I do not know; this one passed, and the files are all there."
                ),
            )
        case _ if message == LEAVE:
            return (
                ScriptedTurn(
                    calls=(
                        _call("bash", command="git push origin main"),
                        _call("code_execution", language="python", code=_DOWNLOAD),
                    )
                ),
                ScriptedTurn(text="Both were refused: pushing by a rule, the download by the sandbox's proxy."),
            )
        case _ if message == COMMIT:
            return (
                ScriptedTurn(calls=(_call("bash", command=f'git add -A && git commit -q -m "{_SUBJECT}"'),)),
                ScriptedTurn(
                    calls=(_call("bash", command=f"git format-patch -1 --stdout > {PATCH} && git status -sb"),)
                ),
                ScriptedTurn(text=f"Committed; the patch is {PATCH}."),
            )
        case _:
            return _all_at_once()


def _all_at_once() -> Sequence[ScriptedTurn]:
    """The same in one turn, for whoever asks in other words."""
    edited = f"{FOLDER}/textkit/slug.py"
    commit = f'cd {FOLDER} && git add -A && git commit -q -m "{_SUBJECT}"'
    return (
        ScriptedTurn(calls=(_call("glob", pattern="**/*.py"),)),
        ScriptedTurn(
            calls=(_call("bash", command=f"cd {FOLDER} && {_TEST}"), _call("read", file_path=edited)),
        ),
        ScriptedTurn(calls=(_call("edit", file_path=edited, old_string=_BROKEN, new_string=_REPAIRED),)),
        ScriptedTurn(calls=(_call("edit", file_path=edited, old_string=_IMPORT, new_string=_IMPORTS),)),
        ScriptedTurn(calls=(_call("bash", command=f"cd {FOLDER} && {_TEST}"),)),
        ScriptedTurn(text="All tests pass.", calls=(_call("bash", command=commit),)),
        ScriptedTurn(calls=(_call("bash", command=f"cd {FOLDER} && git format-patch -1 --stdout > {PATCH}"),)),
        ScriptedTurn(text="Repaired and committed: slugify keeps letters with accents, without their accents."),
    )


def script(site: str) -> Script:
    """The scripted model, for a `CodingSite` at this address."""

    def answer(request: ModelRequest) -> ScriptedTurn:
        messages = request.messages
        at = next(at for at in reversed(range(len(messages))) if isinstance(messages[at], UserTurn))
        turn = messages[at]
        assert isinstance(turn, UserTurn)
        done = sum(isinstance(each, ToolResults) for each in messages[at:])
        steps = _steps(text_of(turn.content), site)
        return steps[min(done, len(steps) - 1)]

    return answer
