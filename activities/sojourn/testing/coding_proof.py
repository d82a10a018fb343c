"""What a repository is like after the coding agent has been at it, found out without the agent or its session.

The agent's programs are run for that, so this happens in a sandbox too, in one of its own.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from sojourn.sandbox import tree
from sojourn.sandbox.choice import choose_sandbox
from sojourn.sandbox.guest_client import Guest
from sojourn.sandbox.protocol import HOME, OUTPUTS, WORKSPACE, Mount, Sandbox, SandboxSpec
from sojourn.testing.coding import FOLDER, PATCH
from sojourn.types.error import SandboxError

_TEST = "python3 -B -m unittest 2>&1"
_SUBJECTS = f"cd {FOLDER} && git log --format=%s"
_REST = f"cd {FOLDER} && git status --porcelain 2>&1"
# Only what the patch says is taken from the agent, and only what was there before from the repository.
_FRESH = (
    f"set -e; git clone --quiet --no-local {FOLDER} /tmp/fresh; cd /tmp/fresh; "
    "git reset --quiet --hard $(git rev-list --max-parents=0 HEAD); "
    f"git -c user.name=proof -c user.email=proof@example.com am --quiet {PATCH}; {_TEST}"
)


@dataclass(frozen=True)
class Proof:
    """What was found."""

    subjects: tuple[str, ...]
    """Of the repository's commits, newest first."""
    uncommitted: str
    """What git says has changed since; empty if nothing has."""
    tests: str
    """What the tests of the session's repository say; empty if they pass."""
    patched: str
    """What the tests say of the repository as it was, with the patch; empty if they pass."""


class _Output(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: str


class _Ran(BaseModel):
    model_config = ConfigDict(extra="ignore")

    exit_code: int
    stdout: _Output
    stderr: _Output


async def prove(sandbox: str, workspace: Path, patch: bytes, scratch: Path) -> Proof:
    """Look at a session's workspace, and at its patch.

    Args:
        sandbox: The name of the worker's.
        workspace: Folder of the workspace on this machine; it is only read.
        patch: As the session's file has it.
        scratch: A folder of this machine that is not there yet.

    Raises:
        SandboxError: It does not work here.
    """
    kind = (await choose_sandbox(sandbox)).sandbox
    if kind is None:
        raise SandboxError(f"sandbox {sandbox!r} is none that a repository can be looked at in")
    guest = await Guest.start(kind, _spec(kind, workspace, patch, scratch))
    try:
        subjects, rest = await _run(guest, _SUBJECTS), await _run(guest, _REST)
        tests, patched = await _run(guest, f"cd {FOLDER} && {_TEST}"), await _run(guest, _FRESH)
    finally:
        await guest.close()
    return Proof(
        tuple(subjects.stdout.text.splitlines()), rest.stdout.text.strip(), tests=_wrong(tests), patched=_wrong(patched)
    )


def _spec(sandbox: Sandbox, workspace: Path, patch: bytes, scratch: Path) -> SandboxSpec:
    outputs, home = scratch / "outputs", scratch / "home"
    for folder in (outputs, home):
        folder.mkdir(parents=True)
        if sandbox.owner is not None:
            tree.give(folder, sandbox.owner)
    (outputs / Path(PATCH).name).write_bytes(patch)
    return SandboxSpec(
        key="coding-proof",
        mounts=(Mount(workspace, WORKSPACE), Mount(outputs, OUTPUTS), Mount(home, HOME, writable=True)),
    )


async def _run(guest: Guest, command: str) -> _Ran:
    argv: list[JsonValue] = ["bash", "-c", command]
    return _Ran.model_validate(await guest.call("run", {"argv": argv, "timeout_seconds": 120}))


def _wrong(ran: _Ran) -> str:
    return "" if ran.exit_code == 0 else (ran.stdout.text + ran.stderr.text).strip() or f"exit code {ran.exit_code}"
