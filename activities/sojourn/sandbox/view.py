"""What a sandbox of bubblewrap sees of the machine: the arguments that put its files together."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from sojourn.sandbox.protocol import HOME, Mount, SandboxSpec
from sojourn.types import SandboxError

GUEST = PurePosixPath("/run/sojourn/guest")
PROXY = PurePosixPath("/run/sojourn/proxy.sock")
UID = 1000
"""User and group inside, whoever they are outside."""

ACCOUNTS: Mapping[str, str] = {
    "/etc/passwd": (
        f"root:x:0:0:root:/root:/bin/sh\nagent:x:{UID}:{UID}:agent:{HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "/etc/group": f"root:x:0:\nagent:x:{UID}:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/hostname": "sandbox\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "/etc/resolv.conf": "",
}
"""Files of ``/etc`` that are the sandbox's own."""

_SHARED = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/java",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
)
"""What programs need of the machine's ``/etc``, and nothing secret: ``/etc/ssl`` holds keys too."""

_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

Place = Callable[[Path], Path]
"""Where bubblewrap finds what lies at a path of the machine."""


def system(place: Place) -> Iterator[str]:
    """The machine's programs and libraries, and the interpreter of the guest, none of it writable."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _MERGED:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in _SHARED:
        yield from ("--ro-bind-try", os.path.realpath(name), name)
    home = interpreter_home()
    if home is not None:
        yield from ("--ro-bind", str(place(home)), str(home))


def own(*, temporary_bytes: int) -> Iterator[str]:
    """What each sandbox has for itself alone. Only what has a size can be written to."""
    yield from ("--proc", "/proc", "--dev", "/dev")
    size = ("--size", str(temporary_bytes))
    yield from ("--perms", "1777", *size, "--tmpfs", "/tmp")
    yield from ("--perms", "1777", *size, "--tmpfs", "/dev/shm")


def mounts(spec: SandboxSpec, guest: Path, place: Place) -> Iterator[str]:
    """The folders of this sandbox, then a lock on everything else."""
    for mount in spec.mounts:
        yield from ("--bind" if mount.writable else "--ro-bind", str(place(mount.source)), str(mount.target))
    yield from ("--ro-bind", str(place(guest)), str(GUEST))
    if spec.proxy is not None:
        yield from ("--ro-bind", str(place(spec.proxy)), str(PROXY))
    # Both are memory of the machine, without a limit.
    yield from ("--remount-ro", "/dev", "--remount-ro", "/")


def variables(spec: SandboxSpec) -> Iterator[str]:
    """The environment inside; programs that find no PATH or HOME at all do odd things."""
    path = ["/usr/local/bin", "/usr/bin", "/bin"]
    home = interpreter_home()
    if home is not None:
        path.append(str(home / "bin"))
    yield "--clearenv"
    for name, value in {"PATH": ":".join(path), "HOME": str(HOME), "LANG": "C.UTF-8", **spec.env}.items():
        yield from ("--setenv", name, value)


def sources(spec: SandboxSpec, guest: Path) -> Iterator[Path]:
    """All paths of the machine that a sandbox needs beside the system's own, which everybody may read."""
    home = interpreter_home()
    if home is not None:
        yield home
    yield from (mount.source for mount in spec.mounts)
    yield guest
    if spec.proxy is not None:
        yield spec.proxy


def interpreter() -> Path:
    """The worker's own Python without its virtual environment: standard library, none of our packages."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Path(sys.base_prefix, "bin", name)


def interpreter_home() -> Path | None:
    """The folder of `interpreter`; ``None`` where the sandbox has it anyway."""
    home = Path(sys.base_prefix)
    return None if home.is_relative_to("/usr") else home


def check_mounts(spec: SandboxSpec) -> None:
    """Refuse what bubblewrap would put in the wrong place.

    A mount inside a writable one is made where the agent was before: a symbolic link that it left there would lead
    bubblewrap out of the folder.

    Raises:
        SandboxError: A source is missing, or the way to a target leads over a symbolic link.
    """
    for index, mount in enumerate(spec.mounts):
        if not mount.source.exists():
            raise SandboxError(
                f"there is no {str(mount.source)!r} to mount at {mount.target}; open the workspace again"
            )
        for outer in spec.mounts[:index]:
            if mount.target.is_relative_to(outer.target) and mount.target != outer.target:
                _check_way(outer, mount)


def _check_way(outer: Mount, inner: Mount) -> None:
    path = outer.source
    for part in inner.target.relative_to(outer.target).parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if part == ".." or stat.S_ISLNK(mode):
            raise SandboxError(
                f"a symbolic link lies in the way of the mount {inner.target}; remove it from {outer.target}"
            )
