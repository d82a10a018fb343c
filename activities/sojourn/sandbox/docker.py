"""A sandbox that is a container of Docker: for machines without bubblewrap, or for the tools of an image."""

import asyncio
import io
import json
import os
import socket
import tarfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from sojourn.sandbox import view
from sojourn.sandbox.bubblewrap import GUEST, OWNER
from sojourn.sandbox.child import KILLED, LINE_LIMIT_BYTES, describe
from sojourn.sandbox.docker_api import DockerApi, Stream
from sojourn.sandbox.protocol import HOME, SandboxSpec
from sojourn.sandbox.usage import readable
from sojourn.types import SandboxError

DEFAULT_IMAGE = "python:3.12-slim"
"""Needs ``python3`` (3.8 or newer) and ``bash``."""

LABEL = "dev.sojourn.worker"

_PATIENCE = timedelta(seconds=30)
_GRACE = timedelta(seconds=5)
_FRAME_BYTES = 64 * 1024
_STDERR = 2
_TOLD_BYTES = 4096


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Created(_Read):
    id: str = Field(alias="Id")


class _Ended(_Read):
    status: int = Field(alias="StatusCode")


class _State(_Read):
    out_of_memory: bool = Field(default=False, alias="OOMKilled")


class _Listed(_Read):
    id: str = Field(alias="Id")
    labels: dict[str, str] = Field(default_factory=dict, alias="Labels")


_LISTED = TypeAdapter(list[_Listed])


class _Container(_Read):
    state: _State = Field(alias="State")


class DockerSandbox:
    """Containers without network and rights, with a read-only system. The daemon has to see the worker's folders.

    Args:
        image: With ``python3`` and ``bash``; it is not fetched, so that a worker never runs what nobody has looked at.
        host: Of the daemon; ``None`` takes ``DOCKER_HOST`` or the usual socket.
        worker: Tells this worker from others of the same daemon, and is the same when it starts again: what it left
            behind is removed. ``None`` takes the machine's name and leaves alone what another process of it has.
        guest: Folder of the guest.
    """

    name = "docker"
    isolates = True
    installs: frozenset[str] = frozenset({"npm", "pip"})

    def __init__(
        self, *, image: str = DEFAULT_IMAGE, host: str | None = None, worker: str | None = None, guest: Path = GUEST
    ) -> None:
        self._api = DockerApi(host)
        self._image = image
        self._worker = worker or f"{socket.gethostname()}/{os.getpid()}"
        self._guest = guest
        self._own: set[str] = set()
        # A worker's own files will do where it is not root.
        self.owner: tuple[int, int] | None = (OWNER, OWNER) if os.geteuid() == 0 else None

    async def check(self) -> None:
        await self._api.call("GET", "/_ping")
        try:
            await self._api.call("GET", f"/images/{quote(self._image, safe='')}/json")
        except SandboxError as error:
            if error.data.get("status") != 404:
                raise
            raise SandboxError(f"Docker has no image {self._image!r}; docker pull {self._image}") from error
        await self.remove_left_over()

    async def remove_left_over(self) -> int:
        """Remove containers of workers that are gone; how many they were."""
        found = await self._api.call("GET", "/containers/json", query={"all": "1", "filters": _labelled()})
        left = [each.id for each in _LISTED.validate_python(found) if self._left_over(each)]
        for id in left:
            await self._remove(id)
        return len(left)

    async def start(self, spec: SandboxSpec) -> "DockerProcess":
        view.check_mounts(spec)
        created = await self._api.call("POST", "/containers/create", json_body=self._container(spec))
        id = _Created.model_validate(created).id
        self._own.add(id)
        try:
            target = {"path": str(view.GUEST)}
            await self._api.call("PUT", f"/containers/{id}/archive", query=target, body=_packed(self._guest))
            # Attached first, so that nothing of what the guest says is missed.
            stream = await self._api.attach(id)
            try:
                await self._api.call("POST", f"/containers/{id}/start")
            except BaseException:
                stream[1].transport.abort()
                raise
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._remove(id)))
            raise
        return DockerProcess(self._api, id, stream, spec.limits.memory_bytes, self._remove)

    async def _remove(self, id: str) -> None:
        with suppress(SandboxError):
            await self._api.call("DELETE", f"/containers/{id}", query={"force": "1", "v": "1"})
        self._own.discard(id)

    def _left_over(self, container: _Listed) -> bool:
        worker = container.labels.get(LABEL, "")
        machine, _, pid = worker.rpartition("/")
        if container.id in self._own:
            return False
        return worker == self._worker or (machine == socket.gethostname() and pid.isdigit() and not _alive(int(pid)))

    def _container(self, spec: SandboxSpec) -> dict[str, JsonValue]:
        """What is asked of the daemon. The user is never root, whose files the guest's are."""
        user, group = self.owner or (os.geteuid(), os.getegid())
        variables = {"HOME": str(HOME), "LANG": "C.UTF-8", **spec.env}
        return {
            "Image": self._image,
            "Entrypoint": ["python3", "-I", "-B", str(view.GUEST / "__main__.py")],
            "Cmd": [],
            "User": f"{user}:{group}",
            "WorkingDir": str(spec.working_dir),
            "Env": [f"{name}={value}" for name, value in variables.items()],
            "Labels": {LABEL: self._worker, f"{LABEL}.sandbox": spec.key},
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "NetworkDisabled": True,
            "HostConfig": _host(spec),
        }


class DockerProcess:
    """A running container.

    Args:
        stream: What `DockerApi.attach` gave.
        remove: Called at the end with the container's id.
    """

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader

    def __init__(
        self, api: DockerApi, id: str, stream: Stream, memory_bytes: int, remove: Callable[[str], Awaitable[None]]
    ) -> None:
        self.id = id
        self._api = api
        self._memory_bytes = memory_bytes
        self._remove = remove
        self._reason: str | None = None
        self._told = b""
        frames, self.stdin = stream
        self._valve = _Valve()
        self.stdout = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
        self.stdout.set_transport(self._valve)
        self._reading = asyncio.create_task(self._read(frames))
        self._done = asyncio.create_task(self._run())

    async def wait(self) -> str:
        return await asyncio.shield(self._done)

    async def kill(self) -> None:
        self._reason = self._reason or KILLED
        if not self._done.done():
            await asyncio.shield(asyncio.ensure_future(self._kill()))

    async def _kill(self) -> None:
        await self._signal()
        await asyncio.wait({self._done}, timeout=_PATIENCE.total_seconds())
        self._reading.cancel()

    async def _signal(self) -> None:
        # It may have ended in this moment.
        with suppress(SandboxError):
            await self._api.call("POST", f"/containers/{self.id}/kill", query={"signal": "KILL"})

    async def _run(self) -> str:
        path = f"/containers/{self.id}/wait"
        waiting = asyncio.create_task(self._api.call("POST", path, timeout=None))
        await asyncio.wait({waiting, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            # Without its streams it is of no use, unless it is just ending.
            await asyncio.wait({waiting}, timeout=_GRACE.total_seconds())
            await self._signal()
        try:
            return await self._end(_Ended.model_validate(await waiting))
        except SandboxError as error:
            return self._reason or str(error)
        finally:
            await self._remove(self.id)
            self._reading.cancel()
            self.stdout.feed_eof()
            self.stdin.transport.abort()

    async def _end(self, ended: _Ended) -> str:
        container = _Container.model_validate(await self._api.call("GET", f"/containers/{self.id}/json"))
        # What it said last may still be on its way.
        await asyncio.wait({self._reading}, timeout=_GRACE.total_seconds())
        if container.state.out_of_memory:
            return f"out of memory (over {readable(self._memory_bytes)})"
        return self._reason or describe(ended.status, _last_line(self._told))

    async def _read(self, frames: asyncio.StreamReader) -> None:
        """Take the frames apart: a byte for the stream, three empty ones, four for the length."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                header = await frames.readexactly(8)
                length = int.from_bytes(header[4:], "big")
                while length > 0:
                    part = await frames.readexactly(min(length, _FRAME_BYTES))
                    length -= len(part)
                    if header[0] == _STDERR:
                        self._told = (self._told + part)[-_TOLD_BYTES:]
                    else:
                        self.stdout.feed_data(part)
                        await self._valve.open.wait()


class _Valve(asyncio.ReadTransport):
    """Lets a reader say that it has enough for now."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    def pause_reading(self) -> None:
        self.open.clear()

    def resume_reading(self) -> None:
        self.open.set()


def _host(spec: SandboxSpec) -> dict[str, JsonValue]:
    limits = spec.limits
    mounts: list[JsonValue] = [
        {"Type": "bind", "Source": str(each.source), "Target": str(each.target), "ReadOnly": not each.writable}
        for each in spec.mounts
    ]
    # Files can be copied to a volume though the system is read-only; it goes away with the container.
    mounts.append({"Type": "volume", "Target": str(view.GUEST)})
    if spec.proxy is not None:
        mounts.append({"Type": "bind", "Source": str(spec.proxy), "Target": str(view.PROXY), "ReadOnly": True})
    temporary = limits.memory_bytes // 4
    return {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "Init": True,
        "LogConfig": {"Type": "none"},
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "PidsLimit": limits.processes,
        "OomScoreAdj": 800,
        "ShmSize": temporary,
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={temporary}"},
        "Mounts": mounts,
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": limits.open_files, "Hard": limits.open_files},
            {"Name": "fsize", "Soft": limits.file_bytes, "Hard": limits.file_bytes},
        ],
    }


def _packed(folder: Path) -> bytes:
    """The guest's files as a tar archive, of root."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in sorted(folder.rglob("*.py")):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return content.getvalue()


def _labelled() -> str:
    return json.dumps({"label": [LABEL]})


def _last_line(content: bytes) -> str:
    lines = content.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
