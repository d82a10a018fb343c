"""Which sandbox a worker has, by name."""

import logging
from dataclasses import dataclass
from typing import Literal, get_args

from sojourn.sandbox.bubblewrap import BubblewrapSandbox
from sojourn.sandbox.docker import DEFAULT_IMAGE, DockerSandbox
from sojourn.sandbox.local import LocalSandbox
from sojourn.sandbox.protocol import Sandbox
from sojourn.types import SandboxError

SandboxName = Literal["auto", "bubblewrap", "docker", "local", "none"]

_logger = logging.getLogger("sojourn.sandbox")


@dataclass(frozen=True, slots=True)
class SandboxChoice:
    """A sandbox that works on this machine, or the reason why there is none."""

    sandbox: Sandbox | None
    reason: str | None = None
    """One line; ``None`` if there is a sandbox."""


async def choose_sandbox(
    name: str | None = None, *, image: str = DEFAULT_IMAGE, worker: str | None = None
) -> SandboxChoice:
    """Find the sandbox of a worker and make sure that it works.

    Args:
        name: A `SandboxName`. ``None`` and ``"auto"`` take bubblewrap where it works and none elsewhere; they never
            take ``"local"``, which protects nothing and has to be asked for.
        image: For ``"docker"``.
        worker: For ``"docker"``: see `DockerSandbox`.

    Raises:
        SandboxError: There is no such sandbox, or the one that was asked for does not work here.
    """
    match name or "auto":
        case "auto":
            return await _automatic()
        case "none":
            return SandboxChoice(None, "the worker was started without a sandbox")
        case "bubblewrap":
            return await _checked(BubblewrapSandbox())
        case "docker":
            return await _checked(DockerSandbox(image=image, worker=worker))
        case "local":
            choice = await _checked(LocalSandbox())
            _logger.warning(
                "the sandbox 'local' protects nothing: agents act as the worker's user, on its files and its network"
            )
            return choice
    raise SandboxError(f"there is no sandbox {name!r}; choose one of {', '.join(get_args(SandboxName))}")


async def _automatic() -> SandboxChoice:
    try:
        return await _checked(BubblewrapSandbox())
    except SandboxError as error:
        return SandboxChoice(None, f"no bubblewrap: {error}")


async def _checked(sandbox: Sandbox) -> SandboxChoice:
    await sandbox.check()
    return SandboxChoice(sandbox)
