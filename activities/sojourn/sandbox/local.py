"""No sandbox: the guest as a process of the worker's user, with all that the user may do. For development."""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path, PurePosixPath

from sojourn.sandbox.bubblewrap import GUEST
from sojourn.sandbox.child import Child, Program
from sojourn.sandbox.protocol import HOME, Mount, SandboxLimits, SandboxSpec
from sojourn.sandbox.usage import Meter, overflow
from sojourn.types import SandboxError

MOUNTS_VARIABLE = "SOJOURN_MOUNTS"
"""Tells the guest where the agent's paths really are: a JSON list of [path, real path]."""
PROXY_VARIABLE = "SOJOURN_PROXY"
"""Tells the guest where the way out really is."""

_KEEPER = Path(__file__).with_name("local_keeper.py")


class LocalSandbox:
    """Runs the agent's commands as the worker's own user, on the machine's own files and network.

    The agent can do all that the worker's user can: read its secrets, end its processes, talk to its network. Memory is
    watched on Linux; the number of processes is not limited, since the limit would count all of the user's.
    """

    name = "local"
    isolates = False
    installs: frozenset[str] = frozenset({"npm", "pip"})
    owner: tuple[int, int] | None = None

    def __init__(self, *, guest: Path = GUEST) -> None:
        self._guest = guest

    async def check(self) -> None:
        if sys.platform == "win32":
            raise SandboxError("the sandbox 'local' needs Linux or macOS; use 'docker'")

    async def start(self, spec: SandboxSpec) -> Child:
        real = _real_paths(spec.mounts)
        folder = _folder(real, spec.working_dir)
        keeper = (sys.executable, "-I", "-B", str(_KEEPER))
        guest = (sys.executable, "-I", "-B", str(self._guest / "__main__.py"))
        reading, writing = os.pipe()
        try:
            command = (*keeper, str(reading), json.dumps(_limits(spec.limits)), *guest)
            program = await Program.start(command, env=_variables(spec, real), pass_fds=(reading,), folder=folder)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        sandbox = Child(program, _ending(writing))
        if sys.platform == "linux":
            sandbox.end_after(overflow(Meter.of_family(sandbox.pid), spec.limits.memory_bytes))
        return sandbox


def _ending(control: int) -> Callable[[], Awaitable[None]]:
    """Closes the descriptor whose end the keeper waits for, once."""
    controls = [control]

    async def end() -> None:
        while controls:
            os.close(controls.pop())

    return end


def _limits(limits: SandboxLimits) -> dict[str, int]:
    return {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": limits.file_bytes, "RLIMIT_NOFILE": limits.open_files}


def _variables(spec: SandboxSpec, real: Callable[[str], str]) -> dict[str, str]:
    """The variables of the spec; where a value is one of the agent's paths, or a list of them, what is really there."""
    own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(HOME), "LANG": "C.UTF-8", **spec.env}
    variables = {name: ":".join(map(real, value.split(":"))) for name, value in own.items()}
    variables[MOUNTS_VARIABLE] = json.dumps([[str(mount.target), str(mount.source)] for mount in spec.mounts])
    if spec.proxy is not None:
        variables[PROXY_VARIABLE] = str(spec.proxy)
    return variables


def _folder(real: Callable[[str], str], path: PurePosixPath) -> Path:
    folder = Path(real(str(path)))
    if not folder.is_dir():
        raise SandboxError(f"there is no folder {str(path)!r} to work in; mount one there")
    return folder


def _real_paths(mounts: Sequence[Mount]) -> Callable[[str], str]:
    """Where the agent's paths really are; others stay as they are."""

    def real(path: str) -> str:
        for mount in reversed(mounts):
            if PurePosixPath(path).is_relative_to(mount.target):
                return str(mount.source / PurePosixPath(path).relative_to(mount.target))
        return path

    return real
