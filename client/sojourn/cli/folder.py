"""The data folder and the ports of `sojourn up`: one process each."""

import errno
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sojourn.types import ConflictError, InvalidRequestError


@contextmanager
def claim(folder: Path) -> Generator[None, None, None]:
    """Make the folder if needed and hold it, so that no second server opens the same database.

    Raises:
        ConflictError: Another process holds it.
        InvalidRequestError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise InvalidRequestError(
            f"cannot use folder {str(folder)!r} ({error.strerror}); choose one with --data"
        ) from None
    with lock:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConflictError(
                    f"another `sojourn up` uses folder {str(folder)!r}; stop it or choose another with --data"
                ) from None
        yield


def free_port(port: int, option: str) -> int | None:
    """The port, or ``None`` for 0, which lets the server take a free one.

    Raises:
        ConflictError: Somebody listens there.
    """
    if port == 0:
        return None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _taken(port, error, option) from None
    return port


def bind(host: str, port: int, option: str) -> socket.socket:
    """A socket that has the port but does not listen yet; port 0 takes a free one.

    Raises:
        ConflictError: The port is taken or not ours to take.
        InvalidRequestError: The machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise InvalidRequestError(f"host {host!r} is unknown; use 127.0.0.1, or 0.0.0.0 for all addresses") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise InvalidRequestError(
                f"host {host!r} is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all addresses"
            ) from None
        raise _taken(port, error, option) from None
    return listener


def _taken(port: int, error: OSError, option: str) -> ConflictError:
    return ConflictError(
        f"port {port} cannot be used ({error.strerror}); another server may be running:"
        f" stop it, or choose another port with {option}"
    )
