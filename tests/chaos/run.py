"""Runs the chaos: ``python -m tests.chaos.run [--kills N] [--seconds S] [--seed N] [--steps] [--json FILE]``.

A seed fixes what every session is put through, and which kills come in which order at which pauses. It cannot fix what
the operating system does meanwhile, so a replay meets the same plan, not the same microseconds.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

from rich.console import Console
from tests.chaos import shell
from tests.chaos.campaign import Campaign, Outcome, Size
from tests.chaos.plan import SHELL_SHARE, Mix, blows, every_point
from tests.chaos.report import figures, show, write


def main() -> None:
    arguments = _arguments()
    console = Console(highlight=False)
    console.print(f"seed {arguments.seed}")
    folder = Path(tempfile.mkdtemp(prefix="sojourn-chaos-"))
    lacking = asyncio.run(shell.lacking())
    if lacking:
        console.print(f"without the scenes of the shell: {lacking}", style="yellow")
    outcome = asyncio.run(_run(arguments, folder, console, shell=0 if lacking else arguments.shell))
    found = figures(outcome)
    show(console, found)
    if arguments.json:
        write(arguments.json, found)
    sys.exit(_verdict(console, outcome, folder, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Kill everything, lose nothing.")
    parser.add_argument("--kills", type=int, default=500, help="stop killing after so many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="or after this time (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="replays a plan (default: by chance)"
    )
    parser.add_argument("--steps", action="store_true", help="begin with a kill at every named step")
    parser.add_argument("--steps-only", action="store_true", help="end when every named step has had its kill")
    parser.add_argument(
        "--pause", type=float, default=Mix().mean_pause, help="mean seconds between kills (%(default)s)"
    )
    parser.add_argument("--in-flight", type=int, default=10, help="sessions at once per client (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="workers at once (default: %(default)s)")
    parser.add_argument(
        "--shell", type=float, default=SHELL_SHARE, help="share of sessions that have the shell (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--keep", action="store_true", help="keep the evidence even if nothing is wrong")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace, folder: Path, console: Console, *, shell: float) -> Outcome:
    seed, mix = arguments.seed, Mix(mean_pause=arguments.pause)
    size = Size(arguments.kills, arguments.seconds, shell, workers=arguments.workers, in_flight=arguments.in_flight)
    plan = blows(seed, mix, shell=shell > 0)
    if arguments.steps:
        plan = chain(every_point(seed, mix, shell=shell > 0), plan)
    if arguments.steps_only:
        size = replace(size, kills=10**6, armed=5, stale=10**6, insists=True)
        plan = every_point(seed, mix, shell=shell > 0)
    last = time.monotonic()
    with console.status("starting") as status:

        def say(text: str) -> None:
            nonlocal last
            status.update(text)
            if not console.is_terminal and time.monotonic() - last > 15:
                last = time.monotonic()
                console.print(text)

        return await Campaign(seed, size, folder, say=say).run(plan)


def _verdict(console: Console, outcome: Outcome, folder: Path, arguments: argparse.Namespace) -> int:
    if not outcome.findings:
        console.print("nothing lost, nothing doubled, nothing stuck", style="bold green")
        if arguments.keep:
            console.print(f"evidence: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        return 0
    for finding in outcome.findings:
        console.print(f"  ✗ {finding.session} {finding.text}", style="red")
    console.print(f"{len(outcome.findings)} findings; evidence: {folder}", style="bold red")
    given = [text for text in sys.argv[1:] if text != "--keep"]
    seeded = [] if "--seed" in given else ["--seed", str(arguments.seed)]
    console.print(f"again: python -m tests.chaos.run {' '.join([*seeded, *given])}")
    return 1


if __name__ == "__main__":
    main()
