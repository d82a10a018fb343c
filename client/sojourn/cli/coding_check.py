"""What must be true after the coding agent's demonstration: of the repository, of the session's log, of what it did."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sojourn.cli.demo_check import Check
from sojourn.testing import log_faults
from sojourn.testing.coding import REFUSED_HOST
from sojourn.testing.coding_proof import Proof
from sojourn.testing.coding_site import SITE_TEXT
from sojourn.types import AgentToolResult, AgentToolUse, SessionEvent, UserToolConfirmation

TOOLS = frozenset({"bash", "code_execution", "edit", "glob", "grep", "read", "web_fetch", "web_search", "write"})
"""Every built-in tool."""


@dataclass(frozen=True)
class Evidence:
    """What was seen."""

    log: Sequence[SessionEvent]
    """Read back whole, at the end."""
    proof: Proof
    """What the repository is like."""
    scripted: bool = True
    """Whether the model follows the script; what another does on the way is not foreseen."""


@dataclass(frozen=True)
class _Call:
    use: AgentToolUse
    result: AgentToolResult | None

    @property
    def command(self) -> str:
        return str(self.use.input.get("command") or self.use.input.get("code") or "")

    @property
    def text(self) -> str:
        return self.result.text if self.result is not None else ""

    @property
    def outcome(self) -> str:
        return self.result.outcome if self.result is not None else "none"


def check(evidence: Evidence) -> list[Check]:
    """Hold all promises against what was seen; a promise without faults is kept."""
    promises = {**_ALWAYS, **(_SCRIPTED if evidence.scripted else {})}
    return [Check(promise, tuple(find(evidence))) for promise, find in promises.items()]


def _log(evidence: Evidence) -> Iterator[str]:
    yield from log_faults(evidence.log)
    for call in _calls(evidence):
        if call.result is None:
            yield f"{call.use.name} {call.use.id} has no result"


def _tests(evidence: Evidence) -> Iterator[str]:
    if evidence.proof.tests:
        yield f"they say: {_end(evidence.proof.tests)}"


def _commit(evidence: Evidence) -> Iterator[str]:
    if len(evidence.proof.subjects) < 2:
        yield f"the repository has {len(evidence.proof.subjects)} commits; that of the agent is missing"
    if evidence.proof.uncommitted:
        yield f"not committed: {_end(evidence.proof.uncommitted)}"


def _patch(evidence: Evidence) -> Iterator[str]:
    if evidence.proof.patched:
        yield f"with it: {_end(evidence.proof.patched)}"


def _asked(evidence: Evidence) -> Iterator[str]:
    allowed = {
        each.tool_use_id for each in evidence.log if isinstance(each, UserToolConfirmation) and each.result == "allow"
    }
    commits = [call for call in _calls(evidence) if "git commit" in call.command]
    for call in commits:
        if call.outcome != "denied" and call.use.id not in allowed:
            yield f"{call.use.id} ran without a yes"


def _used(evidence: Evidence) -> Iterator[str]:
    done = {call.use.name for call in _calls(evidence) if call.outcome == "ok"}
    for name in sorted(TOOLS - done):
        yield f"no call of {name} went well"


def _repaired(evidence: Evidence) -> Iterator[str]:
    runs = [call for call in _calls(evidence) if call.command.endswith("-m unittest")]
    if not runs or "FAILED (failures=1)" not in runs[0].text:
        yield "the first run did not show the failing test"
    if not runs or "\nOK" not in runs[-1].text:
        yield "the last run did not show that all pass"


def _looked_up(evidence: Evidence) -> Iterator[str]:
    texts = {call.use.name: str(call.result) for call in _calls(evidence)}
    if "unicodedata" not in texts.get("web_search", ""):
        yield "the search did not find the page"
    if SITE_TEXT not in texts.get("web_fetch", ""):
        yield "the page was not read"


def _killed(evidence: Evidence) -> Iterator[str]:
    lost = [call for call in _calls(evidence) if call.outcome == "unknown"]
    if len(lost) != 1 or "seq 100" not in lost[0].command:
        yield f"{len(lost)} calls ended as unknown; the long one is expected"


def _denied(evidence: Evidence) -> Iterator[str]:
    pushes = [call.outcome for call in _calls(evidence) if call.command.startswith("git push")]
    if pushes != ["denied"]:
        yield f"it ended as {pushes or 'nothing'}"


def _refused(evidence: Evidence) -> Iterator[str]:
    tries = [call.text for call in _calls(evidence) if REFUSED_HOST in call.command]
    if not tries or "403" not in tries[0]:
        yield f"the answer was {_end(''.join(tries)) or 'nothing'}"


Find = Callable[[Evidence], Iterator[str]]

_ALWAYS: Mapping[str, Find] = {
    "the tests pass in the session's repository": _tests,
    "the commit is there, with all that was changed": _commit,
    "the patch from the session's files repairs the repository as it was": _patch,
    "no commit was made without a yes": _asked,
    "the log is whole, and every call has exactly one result": _log,
}
_SCRIPTED: Mapping[str, Find] = {
    "every built-in tool was used": _used,
    "the test was seen to fail, and to pass": _repaired,
    "the page was found by searching, and read": _looked_up,
    "the command whose worker was killed is told as unknown, and no other": _killed,
    "the push was denied": _denied,
    "the sandbox's proxy refused the host that is not allowed": _refused,
}


def _calls(evidence: Evidence) -> list[_Call]:
    results = {each.tool_use_id: each for each in evidence.log if isinstance(each, AgentToolResult)}
    return [_Call(each, results.get(each.id)) for each in evidence.log if isinstance(each, AgentToolUse)]


def _end(text: str) -> str:
    return " ".join(text.split())[-200:]
