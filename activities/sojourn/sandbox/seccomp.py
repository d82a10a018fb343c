"""A filter of system calls, as a program for the kernel: what namespaces alone leave open to a sandbox.

Not a list of all that is allowed: the agent compiles, debugs and runs what it likes. Left out are a few doors that lead
past the sandbox (sockets that no network namespace holds, keyrings, terminals), memory that nobody could count, and
parts of the kernel that often had holes and that no ordinary program needs.
"""

import errno
import platform
import struct
from collections.abc import Iterator

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Number of the architecture, and the column of its system calls in the tables below."""
_X32 = 0x40000000
"""From here on x86 counts the calls of its x32 form, which would slip past the numbers below."""

# Newer calls have one number everywhere.
_REFUSED: dict[str, tuple[int, int, int]] = {
    "add_key": (248, 217, errno.EPERM),
    "bpf": (321, 280, errno.EPERM),
    "io_uring_enter": (426, 426, errno.ENOSYS),
    "io_uring_register": (427, 427, errno.ENOSYS),
    "io_uring_setup": (425, 425, errno.ENOSYS),
    "kexec_load": (246, 104, errno.EPERM),
    "keyctl": (250, 219, errno.EPERM),
    # Its memory shows nowhere once it is in no process's map, so programs are sent to /dev/shm, which has a size.
    "memfd_create": (319, 279, errno.ENOSYS),
    "memfd_secret": (447, 447, errno.ENOSYS),
    "open_by_handle_at": (304, 265, errno.EPERM),
    "perf_event_open": (298, 241, errno.EPERM),
    "request_key": (249, 218, errno.EPERM),
    "userfaultfd": (323, 282, errno.EPERM),
}
_IOCTL, _SHMGET, _SOCKET = (16, 29), (29, 194), (41, 198)

_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
"""Type into a terminal, and paste on a console."""
_FAMILIES = (1, 2, 10, 16)
"""Unix, IPv4, IPv6 and netlink: the ones that a network namespace holds. Others, such as vsock, reach the machine."""
_SHARED_BYTES = 64 * 1024
"""Largest System V segment, of which there may be 4096: enough for the databases that use one as a lock."""

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _OVER, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _ARCHITECTURES


def system_call_filter() -> bytes:
    """The filter for this machine, in the form that ``bwrap --seccomp`` reads."""
    architecture, column = _ARCHITECTURES[platform.machine()]
    return b"".join(struct.pack("=HBBI", *each) for each in _program(architecture, column))


def _program(architecture: int, column: int) -> Iterator[Instruction]:
    yield (_LOAD, 0, 0, _ARCHITECTURE)
    yield (_EQUAL, 1, 0, architecture)
    yield _fails(errno.ENOSYS)
    yield (_LOAD, 0, 0, _NUMBER)
    yield (_AT_LEAST, 0, 1, _X32)
    yield _fails(errno.ENOSYS)
    for numbers in _REFUSED.values():
        yield (_EQUAL, 0, 1, numbers[column])
        yield _fails(numbers[2])
    yield from _only(_IOCTL[column], _terminal())
    yield from _only(_SOCKET[column], _family())
    yield from _only(_SHMGET[column], _segment())
    yield (_RETURN, 0, 0, _ALLOW)


def _only(number: int, block: list[Instruction]) -> Iterator[Instruction]:
    """``block`` for one system call; it has to return."""
    yield (_EQUAL, 0, len(block), number)
    yield from block


def _terminal() -> list[Instruction]:
    # The kernel looks at 32 bits of the request, so no other half can hide one.
    return [
        (_LOAD, 0, 0, _argument(1)),
        (_EQUAL, 1, 0, _TIOCSTI),
        (_EQUAL, 0, 1, _TIOCLINUX),
        _fails(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _family() -> list[Instruction]:
    last = len(_FAMILIES) - 1
    checks = [(_EQUAL, last - index + 1, 0, family) for index, family in enumerate(_FAMILIES)]
    return [(_LOAD, 0, 0, _argument(0)), *checks, _fails(errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]


def _segment() -> list[Instruction]:
    return [
        (_LOAD, 0, 0, _argument(1) + 4),
        (_EQUAL, 0, 2, 0),
        (_LOAD, 0, 0, _argument(1)),
        (_OVER, 0, 1, _SHARED_BYTES),
        _fails(errno.ENOMEM),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _argument(index: int) -> int:
    """Where the lower half of an argument lies; both architectures are little-endian."""
    return _ARGUMENTS + 8 * index


def _fails(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)
