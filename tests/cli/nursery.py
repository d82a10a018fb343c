"""Starts the program by forking a process that has imported it already: two hundred starts a run, each much cheaper.

A program of its own. Reads one request on each line (`id`, `argv`, `environment`, `folder`, `files`), writes
``{"id": …, "code": …}`` when the child has ended.
"""

import json
import os
import select
import signal
import sys

# All that a command may import later, and that takes long.
import sojourn.cli
import sojourn.cli.app
import sojourn.client.runtime


def main() -> None:
    """Serve until standard input ends."""
    running: dict[int, int] = {}
    rest, open_ = b"", True
    while open_ or running:
        ready, _, _ = select.select([0] if open_ else [], [], [], 0.01 if running else None)
        if ready:
            piece = os.read(0, 65536)
            if not (open_ := bool(piece)):
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                request = json.loads(line)
                running[_child(request)] = request["id"]
        for pid in list(running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                told = {"id": running.pop(pid), "code": os.waitstatus_to_exitcode(status)}
                os.write(1, json.dumps(told).encode() + b"\n")


def _child(request: dict[str, object]) -> int:
    if (pid := os.fork()) != 0:
        return pid
    code = 1
    try:
        code = _run(request)
    finally:
        os._exit(code)


def _run(request: dict[str, object]) -> int:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    os.chdir(str(request["folder"]))
    stdin, out, err = map(str, request["files"])  # type: ignore[call-overload]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, file in enumerate((os.open(stdin, os.O_RDONLY), os.open(out, flags), os.open(err, flags))):
        os.dup2(file, number)
    sys.argv = ["sojourn", *map(str, request["argv"])]  # type: ignore[call-overload]
    try:
        sojourn.cli.main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    main()
