"""What is mounted into a session's workspace: files and repositories (Managed Agents API §1.5).

Workflows hold ids and paths. What a file contains and a token that opens a repository are in the object store.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from sojourn.types.id import FileId, ResourceId
from sojourn.types.wire import Omitted, Wire

UPLOADS = "/mnt/session/uploads"
WORKSPACE = "/workspace"

MAX_RESOURCES = 500

_MAX_PATH = 1024
_MAX_PART_BYTES = 255


def check_mount_path(path: str) -> str:
    """Refuse what is not a plain path below one of the two folders.

    Raises:
        ValueError: It is not.
    """
    root = next((root for root in (UPLOADS, WORKSPACE) if path.startswith(f"{root}/")), None)
    if root is None:
        raise ValueError(f"write an absolute path below {UPLOADS} or {WORKSPACE}")
    parts = path.removeprefix(f"{root}/").split("/")
    if len(path) > _MAX_PATH or not all(map(_is_plain, parts)):
        raise ValueError(f"no plain path: up to {_MAX_PATH} printable characters, without '.', '..' or empty parts")
    return path


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and part.isprintable() and len(part.encode()) <= _MAX_PART_BYTES


def _check_repository_path(path: str) -> str:
    if not path.startswith(f"{WORKSPACE}/"):
        raise ValueError(f"repositories are mounted below {WORKSPACE}")
    return check_mount_path(path)


_NO_ADDRESS = "write the https:// address of a repository"


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        plain = bool(parts.scheme in ("https", "http") and parts.hostname and parts.port != 0)
    except ValueError:
        raise ValueError(_NO_ADDRESS) from None
    if not plain or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(_NO_ADDRESS)
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address has credentials in it; send them as authorization_token")
    if parts.query or parts.fragment or not parts.path.strip("/"):
        raise ValueError("write the address of a repository, without query and fragment")
    return url


_BRANCH = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]{1,255}(?<![/.])")


def _check_branch(name: str) -> str:
    if not _BRANCH.fullmatch(name):
        raise ValueError("no name that a branch can have")
    return name


MountPath = Annotated[str, AfterValidator(check_mount_path)]
RepositoryPath = Annotated[str, AfterValidator(_check_repository_path)]
RepositoryUrl = Annotated[str, Field(max_length=2048), AfterValidator(_check_url)]


class BranchCheckout(Wire):
    """The newest state of a branch."""

    type: Literal["branch"] = "branch"
    name: Annotated[str, AfterValidator(_check_branch)]


class CommitCheckout(Wire):
    """One commit."""

    type: Literal["commit"] = "commit"
    sha: str = Field(pattern=r"^[0-9a-fA-F]{7,64}$")


Checkout = Annotated[BranchCheckout | CommitCheckout, Field(discriminator="type")]


class FileMount(Wire):
    """A file that is to be mounted. The session gets a copy of its own."""

    type: Literal["file"] = "file"
    file_id: str = Field(min_length=1, max_length=128)
    mount_path: MountPath | None = None
    """``None`` mounts it at `UPLOADS` under the id of the copy."""


class RepositoryMount(Wire):
    """A repository that is to be cloned into the workspace."""

    type: Literal["github_repository"] = "github_repository"
    url: RepositoryUrl
    authorization_token: Annotated[
        str | None, Field(min_length=1, max_length=4096, pattern=r"^[!-~]+$", repr=False)
    ] = None
    """Write-only: it is sealed with the operator's key and never shown. ``None`` for public repositories."""
    checkout: Checkout | None = None
    """``None`` takes the repository's default branch."""
    mount_path: RepositoryPath | None = None
    """``None`` is `WORKSPACE` and the name of the repository."""


ResourceMount = Annotated[FileMount | RepositoryMount, Field(discriminator="type")]
"""What somebody wants mounted."""


class FileResource(Wire):
    """A file in a session's workspace."""

    type: Literal["file"] = "file"
    id: ResourceId
    file_id: FileId
    """The session's own copy."""
    mount_path: str
    created_at: datetime
    updated_at: datetime


class RepositoryResource(Wire):
    """A repository in a session's workspace."""

    type: Literal["github_repository"] = "github_repository"
    id: ResourceId
    url: str
    checkout: Checkout | None = None
    mount_path: str
    has_token: Annotated[bool, Omitted] = False
    """Whether there is a sealed token for it in the object store."""
    created_at: datetime
    updated_at: datetime


Resource = Annotated[FileResource | RepositoryResource, Field(discriminator="type")]
"""What is mounted."""


class ChangeResourcesInput(Wire):
    """A change to what is mounted into a live session: all of it or nothing."""

    add: tuple[Resource, ...] = ()
    remove: tuple[ResourceId, ...] = ()
    rotated: tuple[ResourceId, ...] = ()
    """Repositories whose token is another one now."""


class ResourceList(Wire):
    """What is mounted, as clients read it without a worker."""

    data: tuple[Resource, ...] = ()


def default_path(url: str) -> str:
    """Where a repository is cloned to if nobody says.

    Raises:
        ValueError: Its name is none that a folder can have.
    """
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return check_mount_path(f"{WORKSPACE}/{name}")


def path_conflict(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths of which one is, or lies in, the other; ``None`` if there are no such."""
    ordered = sorted(paths, key=lambda path: path.split("/"))
    for first, second in pairwise(ordered):
        if second == first or second.startswith(f"{first}/"):
            return first, second
    return None


def token_path(workflow_id: str, resource_id: ResourceId) -> str:
    """Where the sealed token of a repository lies in the object store."""
    return f"sessions/{workflow_id}/resources/{resource_id}.token"


def token_context(workflow_id: str, resource_id: ResourceId) -> str:
    """What a sealed token belongs to; it opens with nothing else."""
    return f"repository token of {workflow_id} {resource_id}"
