"""Files of our own in the agent's workspace."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from typing import BinaryIO

from .place import Places

FOLDER = ".sojourn"
"""In the workspace; git leaves it alone, and searches do unless they are asked for it."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}(\.[a-z]{1,10})?")


class Scratch:
    """Makes folders in which the agent finds what did not fit elsewhere."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def folder(self, name: str) -> str:
        """The real path of a folder, which is there.

        Raises:
            OSError: It cannot be made.
        """
        workspace = self._places.real("/workspace")
        if not os.access(workspace, os.W_OK):
            workspace = tempfile.gettempdir()
        home = os.path.join(workspace, FOLDER)
        os.makedirs(os.path.join(home, name), exist_ok=True)
        ignored = os.path.join(home, ".gitignore")
        if not os.path.lexists(ignored):
            with open(ignored, "x") as file:
                file.write("*\n")
        return os.path.join(home, name)

    def output(self, name: str) -> tuple[BinaryIO, str]:
        """A new file for output that is too long, and its path as the agent knows it.

        Raises:
            OSError: It cannot be made.
        """
        if not _NAME.fullmatch(name):
            name = secrets.token_hex(8)
        path = os.path.join(self.folder("output"), name + ".txt")
        # Not written through a link that the agent may have laid there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.fdopen(os.open(path, flags, 0o644), "wb"), self._places.shown(path)
