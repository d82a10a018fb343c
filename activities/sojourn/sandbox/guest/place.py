"""Where files are: the paths that the agent uses, and those of the machine."""

from __future__ import annotations

import errno
import json
import os
from typing import Mapping, Sequence

from .wire import OpError

MOUNTS_VARIABLE = "SOJOURN_MOUNTS"
"""Set where the agent's folders are not called so on the machine: a JSON list of pairs of its name and the real one."""


class Places:
    """Translates paths.

    Args:
        mounts: Pairs of the agent's name for a folder and where it really is. One may lie inside another.
        working_dir: Where relative paths start, as it really is.
    """

    def __init__(self, mounts: Sequence[tuple[str, str]], working_dir: str) -> None:
        self._mounts = sorted(mounts, key=lambda mount: len(mount[0]))
        self.working_dir = working_dir

    @staticmethod
    def of(env: Mapping[str, str]) -> Places:
        pairs = json.loads(env.get(MOUNTS_VARIABLE) or "[]")
        return Places([(str(target), str(source)) for target, source in pairs], os.getcwd())

    def real(self, path: str) -> str:
        """The path as the system knows it, absolute."""
        if "\0" in path:
            raise OpError("invalid", f"a path cannot hold a NUL byte: {path!r}")
        if not path:
            raise OpError("invalid", "the path is empty")
        if path == "~" or path.startswith("~/"):
            path = os.path.expanduser(path)
        if not self._mounts:
            return os.path.join(self.working_dir, path)
        whole = os.path.normpath(os.path.join(self.shown(self.working_dir), path))
        for target, source in reversed(self._mounts):
            if _within(whole, target):
                return os.path.normpath(os.path.join(source, os.path.relpath(whole, target)))
        return whole

    def shown(self, path: str) -> str:
        """The path as the agent knows it."""
        for target, source in sorted(self._mounts, key=lambda mount: -len(mount[1])):
            if _within(path, source):
                return os.path.normpath(os.path.join(target, os.path.relpath(path, source)))
        return path


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


_REASONS = {
    errno.ENOENT: "no such file or directory",
    errno.ENOTDIR: "not a directory",
    errno.EISDIR: "is a directory",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EEXIST: "file already exists",
    errno.ELOOP: "too many levels of symbolic links",
    errno.EROFS: "the file system is read-only",
    errno.EAGAIN: "nothing to read at the moment",
}


def failure(op: str, path: str, error: OSError) -> OpError:
    """What the model is told of an error, the same on every system."""
    reason = _REASONS.get(error.errno or 0) or (error.strerror or "i/o error").lower()
    return OpError("failed", f"{op}: {path}: {reason}")


def components(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
