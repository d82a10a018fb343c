"""The filter, played on both architectures: a test run has only one of them."""

import errno
import struct

import pytest

from sojourn.sandbox.seccomp import _ARCHITECTURES, _program

ALLOWED = 0
X86, ARM = "x86_64", "aarch64"


def play(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would do with a system call: an error's number, or `ALLOWED`."""
    own, column = _ARCHITECTURES[machine]
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, own if architecture is None else architecture, 0, *words)
    program = list(_program(own, column))
    at = accumulator = 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, value)[0]
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x25:
                at += yes if accumulator > value else no
            case 0x06:
                return ALLOWED if value == 0x7FFF0000 else value & 0xFFFF
            case _:
                raise AssertionError(code)


@pytest.mark.parametrize(
    ("machine", "number", "arguments", "expected"),
    [
        (X86, 0, (), ALLOWED),  # read
        (X86, 59, (), ALLOWED),  # execve
        (X86, 101, (), ALLOWED),  # ptrace, for debuggers
        (X86, 250, (), errno.EPERM),  # keyctl
        (X86, 319, (), errno.ENOSYS),  # memfd_create
        (X86, 16, (0, 0x5412), errno.EPERM),  # ioctl TIOCSTI
        (X86, 16, (0, 0xFFFFFFFF_00005412), errno.EPERM),
        (X86, 16, (0, 0x541C), errno.EPERM),
        (X86, 16, (0, 0x5413), ALLOWED),
        (X86, 41, (1,), ALLOWED),  # socket
        (X86, 41, (2,), ALLOWED),
        (X86, 41, (10,), ALLOWED),
        (X86, 41, (16,), ALLOWED),
        (X86, 41, (40,), errno.EAFNOSUPPORT),  # vsock
        (X86, 41, (17,), errno.EAFNOSUPPORT),
        (X86, 29, (0, 56), ALLOWED),  # shmget
        (X86, 29, (0, 65536), ALLOWED),
        (X86, 29, (0, 65537), errno.ENOMEM),
        (X86, 29, (0, 1 << 40), errno.ENOMEM),
        (X86, 0x40000000, (), errno.ENOSYS),  # x32
        (X86, 0x40000000 + 250, (), errno.ENOSYS),
        (ARM, 63, (), ALLOWED),  # read
        (ARM, 219, (), errno.EPERM),  # keyctl
        (ARM, 279, (), errno.ENOSYS),  # memfd_create
        (ARM, 29, (0, 0x5412), errno.EPERM),  # ioctl TIOCSTI
        (ARM, 29, (0, 0x5401), ALLOWED),
        (ARM, 198, (40,), errno.EAFNOSUPPORT),  # socket
        (ARM, 198, (1,), ALLOWED),
        (ARM, 194, (0, 1 << 20), errno.ENOMEM),  # shmget
        (ARM, 250, (), ALLOWED),
    ],
)
def test_filter_decides_by_number_and_arguments(
    machine: str, number: int, arguments: tuple[int, ...], expected: int
) -> None:
    assert play(machine, number, *arguments) == expected


@pytest.mark.parametrize("machine", [X86, ARM])
def test_other_architectures_get_nowhere(machine: str) -> None:
    assert play(machine, 1, architecture=0x40000003) == errno.ENOSYS
