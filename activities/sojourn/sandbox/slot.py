"""A worker's place on its machine: a numbered folder that it alone uses while it lives.

A worker that is started again takes the same number, and with it the task queue and the workspaces of the one before.
"""

import os
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sojourn.types.error import SandboxError

_MOST = 1000
"""Workers of one task queue on one machine."""

_LOCK, _ID = "lock", "id"


class Slot:
    """A claimed folder; `release` it, or end the process."""

    def __init__(self, folder: Path, id: str, lock: int) -> None:
        self.folder = folder
        self.id = id
        """The same for every worker that claims the folder."""
        self._lock: int | None = lock

    @classmethod
    def claim(cls, root: Path) -> "Slot":
        """Take the first folder below ``root`` that no living worker has; it is made if there is none.

        Raises:
            SandboxError: The folder cannot be written to.
        """
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for number in range(_MOST):
                folder = root / str(number)
                if (lock := try_lock(folder)) is not None:
                    return cls(folder, _id(folder / _ID), lock)
        except OSError as error:
            text = f"workspaces cannot be kept in {str(root)!r} ({error.strerror}); name another folder"
            raise SandboxError(f"{text} with --workspaces or SOJOURN_WORKSPACES") from None
        raise SandboxError(f"{_MOST} workers keep workspaces in {str(root)!r}; name another folder with --workspaces")

    def release(self) -> None:
        """Let another worker have it. Safe to repeat."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def try_lock(folder: Path) -> int | None:
    """Lock a slot's folder; the descriptor that holds it, or ``None`` if a living worker does.

    The kernel lets go of it when the process ends, however it ends.
    """
    # Not on every system that the client and its tests run on.
    import fcntl

    folder.mkdir(exist_ok=True, mode=0o700)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _id(path: Path) -> str:
    with suppress(FileNotFoundError):
        if id := path.read_text().strip():
            return id
    id = uuid.uuid4().hex
    write_whole(path, id.encode())
    return id


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there wholly or not at all, a power failure included."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
