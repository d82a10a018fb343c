"""Every way in which sandboxes are attacked, each a coroutine; as a program, it does one of them for the user it runs as."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from tests.sandbox.attack import ATTACKS, HOPELESS
from tests.sandbox.prey import prey

Act = Callable[[], Awaitable[None]]


async def attacked(name: str) -> None:
    """The attack succeeds without a sandbox, where it is tried, and fails in one."""
    async with prey() as each:
        if name in ATTACKS:
            free = await each.outside(name)
            assert "GOT" in free.out, f"it does not even succeed outside: {free}"
        held = await each.inside(name)
    assert "GOT" not in held.out, held
    assert held.refused, f"it failed by a mistake of its own: {held}"


ACTS: dict[str, Act] = {name: (lambda name=name: attacked(name)) for name in (*ATTACKS, *HOPELESS)}  # type: ignore[misc]


if __name__ == "__main__":
    asyncio.run(ACTS[sys.argv[1]]())
