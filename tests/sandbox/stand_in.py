"""Stands in for the guest: runs what it is sent, a JSON object a line, and answers with what came of it."""

import json
import subprocess
import sys


def say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


say(ready=sys.version)
for line in sys.stdin:
    request = json.loads(line)
    try:
        done = subprocess.run(
            request["argv"], capture_output=True, text=True, errors="replace", timeout=request["timeout"]
        )
        say(status=done.returncode, out=done.stdout, err=done.stderr)
    except (OSError, subprocess.SubprocessError) as error:
        say(status=None, out="", err=f"{type(error).__name__}: {error}")
