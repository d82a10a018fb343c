"""Ports for servers that must be told theirs before they start."""

import os
import secrets
import socket

# Above what needs rights, below what systems give to outgoing connections, which come by the thousand.
_LOWEST, _HIGHEST = 10240, 32767


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, by chance, so that two who look at the same time hardly meet.

    Raises:
        OSError: A hundred in a row were taken.
    """
    for _ in range(100):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST + 1)
        if is_free(port):
            return port
    raise OSError(f"no port between {_LOWEST} and {_HIGHEST} is free")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        if os.name != "nt":  # as servers do: connections that have ended take no port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
