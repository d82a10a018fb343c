"""Worker versioning: which release of the code a worker is, and how its sessions come to the next one."""

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from temporalio.common import VersioningBehavior
from temporalio.worker import WorkerDeploymentConfig, WorkerDeploymentVersion

import sojourn.types
import sojourn.workflows
from sojourn.types.error import InvalidRequestError

Versioning = Literal["pinned", "auto-upgrade"]

_BEHAVIORS: dict[str, VersioningBehavior] = {
    "pinned": VersioningBehavior.PINNED,
    "auto-upgrade": VersioningBehavior.AUTO_UPGRADE,
}
_MAX_LENGTH = 255
"""Of a build id (``limit.workerBuildIdSize``); names are kept to the same."""


def deployment_config(
    name: str, *, build_id: str | None = None, versioning: Versioning = "pinned"
) -> WorkerDeploymentConfig:
    """Temporal's worker versioning, for `WorkerOptions`.

    Args:
        name: Of the deployment; all versions of one fleet share it.
        build_id: Of this version; ``None`` makes it of the release and the code of the workflows.
        versioning: ``pinned`` keeps a session on its version until it next has to do something between two steps, and
            moves it then. ``auto-upgrade`` hands it over with its next workflow task, in the middle of a turn too: the
            new code then replays what the old code has done, as without versioning.

    Raises:
        InvalidRequestError: The server would refuse the name or the build id.
    """
    build_id = default_build_id() if build_id is None else build_id
    _check("deployment", name, forbidden=".:")
    _check("build id", build_id, forbidden=":")
    behavior = _BEHAVIORS.get(versioning)
    if behavior is None:
        raise InvalidRequestError(f"versioning {versioning!r} is none; use {' or '.join(_BEHAVIORS)}")
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=name, build_id=build_id),
        use_worker_versioning=True,
        default_versioning_behavior=behavior,
    )


def default_build_id() -> str:
    """The release, and a digest of all code that takes part in a replay: equal code has an equal id on any machine."""
    try:
        release = version("sojourn")
    except PackageNotFoundError:
        release = "source"
    digest = sha256()
    for package in (sojourn.types, sojourn.workflows):
        for module in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(module.name.encode() + b"\0" + module.read_bytes())
    return f"{release}-{digest.hexdigest()[:8]}"


def _check(what: str, value: str, *, forbidden: str) -> None:
    reserved = value.startswith("__")
    if not value.strip() or len(value) > _MAX_LENGTH or reserved or any(mark in value for mark in forbidden):
        marks = " or ".join(repr(mark) for mark in forbidden)
        raise InvalidRequestError(
            f"{what} {value!r} is none; use 1 to {_MAX_LENGTH} characters without {marks}, not beginning with '__'"
        )
