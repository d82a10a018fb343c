"""The files of one workspace on a worker, and what the worker knows of them."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import ValidationError

from sojourn.sandbox import tree
from sojourn.sandbox.slot import write_whole
from sojourn.types.wire import Omitted, Wire
from sojourn.types.workspace import Checkpoint

_RECORD = "meta.json"
_STORED = ("workspace", "outputs", "home")
_ALL = (*_STORED, "uploads")


class FolderRecord(Wire):
    """What a workspace's folder is. It is written last: a folder without it is not whole."""

    workflow_id: str
    first_run_id: str
    """Of the session; another session may have the id after it was deleted."""
    generation: int
    used: bool = False
    """Whether a call has come for this generation. Calls go only to the worker whose opening has reached the workflow,
    so no other worker has anything newer."""
    started: bool = False
    """Whether a sandbox has run in it."""
    restored: Annotated[Checkpoint | None, Omitted] = None
    """What it began from; ``None`` where it began empty."""
    kept: bool = False
    """Whether it was here in the generation before, and went on as it was."""
    stored: Annotated[Checkpoint | None, Omitted] = None
    """The checkpoint that is like the files, if `fingerprint` has not changed."""
    fingerprint: Annotated[str, Omitted] = ""


class WorkspaceFolder:
    """Where a workspace lies. Its methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def workspace(self) -> Path:
        """The agent's working directory."""
        return self.path / "workspace"

    @property
    def uploads(self) -> Path:
        """Mounted files; the agent cannot write here."""
        return self.path / "uploads"

    @property
    def outputs(self) -> Path:
        """What is to become files of the session."""
        return self.path / "outputs"

    @property
    def home(self) -> Path:
        """The agent's home."""
        return self.path / "home"

    @property
    def stored(self) -> Mapping[str, Path]:
        """What a checkpoint holds, by its name in there."""
        return {name: self.path / name for name in _STORED}

    def record(self) -> FolderRecord | None:
        """What it is; ``None`` if it is not there, or not whole."""
        try:
            return FolderRecord.model_validate_json((self.path / _RECORD).read_bytes(), extra="ignore")
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, record: FolderRecord) -> None:
        """Note what it is."""
        write_whole(self.path / _RECORD, record.model_dump_json().encode())

    def make(self, owner: tuple[int, int] | None) -> None:
        """Make it anew, empty. Whatever was there is gone."""
        tree.remove(self.path)
        self.path.mkdir(parents=True, mode=0o700)
        for name in _ALL:
            (self.path / name).mkdir(mode=0o755)
            if owner is not None:
                tree.give(self.path / name, owner)

    def fingerprint(self) -> str:
        """Changes when something that a checkpoint holds changes."""
        return tree.fingerprint(self.stored)


def folder_name(workflow_id: str) -> str:
    """The name of a workspace's folder: one that people recognise, and unique."""
    plain = "".join(each if each.isalnum() or each in "._-" else "-" for each in workflow_id.replace("/", "--"))
    return f"{plain[:100]}-{sha256(workflow_id.encode()).hexdigest()[:12]}"
