"""Packages of environments in the sandboxes of sessions."""

import os
from collections.abc import Mapping
from pathlib import PurePath

from sojourn.activities.workspace import Report
from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.sandbox.packages import InstalledPackages, PackageStore
from sojourn.sandbox.protocol import PACKAGES, Mount, Sandbox
from sojourn.sandbox.view import interpreter_home
from sojourn.types.environment import CloudConfig
from sojourn.types.error import SandboxError
from sojourn.types.session import SessionInput
from sojourn.types.session_error import ErrorDetail, RetryStatus


class PackageStock:
    """Has packages installed when a workspace is opened, and shows them to its sandbox. See `Stock`, `Preparation`."""

    def __init__(self, store: PackageStore, sandbox: Sandbox) -> None:
        self._store = store
        self._isolates = sandbox.isolates
        self._path = path_in(sandbox)

    async def prepare(
        self, start: SessionInput, folder: WorkspaceFolder, generation: int, report: Report
    ) -> tuple[ErrorDetail, ...]:
        """Install what the environment names. Where that fails, the sandbox will say so too, and try again."""
        try:
            await self._installed(start)
        except SandboxError as error:
            return (
                ErrorDetail(
                    type="packages_error", message=str(error)[:2000], retry_status=RetryStatus(type="retrying")
                ),
            )
        return ()

    async def mounts(self, start: SessionInput) -> tuple[tuple[Mount, ...], Mapping[str, str]]:
        """See `Stock`."""
        installed = await self._installed(start)
        if installed.folder is None:
            return (), {}
        root: PurePath = PACKAGES if self._isolates else installed.folder
        return installed.mounts if self._isolates else (), installed.environment(path=self._path, root=root)

    async def _installed(self, start: SessionInput) -> InstalledPackages:
        if not isinstance(start.sandbox, CloudConfig):
            return InstalledPackages()
        return await self._store.installed(start.sandbox.packages)


def path_in(sandbox: Sandbox) -> str:
    """``PATH`` in such a sandbox."""
    if not sandbox.isolates:
        return os.environ.get("PATH", os.defpath)
    folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    if sandbox.name == "bubblewrap" and (home := interpreter_home()) is not None:
        folders.append(str(home / "bin"))
    return ":".join(folders)
