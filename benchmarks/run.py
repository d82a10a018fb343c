"""Runs the benchmarks: ``python benchmarks/run.py [--quick] [--only NAME] [--markdown]``.

Both sides run side by side on the same server, so only their ratios mean something on a machine that is not idle.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import gateway_http
import history
import interrupt
import latency
import memory
import turns
from report import Table, markdown, show, write
from rich.console import Console
from setting import Setting, Size

import sandbox
from sojourn.worker import embedded_server

BENCHMARKS: dict[str, Callable[[Setting], Awaitable[Table]]] = {
    "turns": turns.run,
    "history": history.run,
    "latency": latency.run,
    "interrupt": interrupt.run,
    "memory": memory.run,
    "gateway": gateway_http.run,
    "sandbox": sandbox.run,
}
RESULTS = Path(__file__).with_name("results") / "latest.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sojourn beside a hand-written Temporal workflow.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--smoke", action="store_true", help="only show that everything runs; the figures mean nothing")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown too")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes (default: %(default)s)")
    arguments = parser.parse_args()
    size: Size = "smoke" if arguments.smoke else "quick" if arguments.quick else "full"
    console = Console()
    tables = asyncio.run(_measure(arguments.only or list(BENCHMARKS), size, console))
    console.print()
    show(console, tables)
    if arguments.markdown:
        print(markdown(tables))
    write(arguments.output, tables)
    console.print(f"written to {arguments.output}")


async def _measure(names: list[str], size: Size, console: Console) -> list[Table]:
    tables: list[Table] = []
    for name in names:
        # A fresh server for each: what one leaves behind is no burden for the next.
        with console.status(name) as status:

            def say(text: str, name: str = name) -> None:
                status.update(f"{name}: {text}")
                if not console.is_terminal:
                    console.print(f"{name}: {text}", highlight=False)

            async with embedded_server() as server:
                tables.append(await BENCHMARKS[name](Setting(server.address, size, say)))
        console.print(f"{name}: done", highlight=False)
    return tables


if __name__ == "__main__":
    main()
