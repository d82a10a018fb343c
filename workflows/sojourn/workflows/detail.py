"""What a person sees of the session in the Temporal Web UI without opening a payload."""

import asyncio
from collections.abc import Callable, Sequence

from temporalio import workflow

from sojourn.workflows.call import Call

with workflow.unsafe.imports_passed_through():
    from sojourn.types.session import SessionStatus, StopReason

_LONGEST = 400


class Display:
    """Shows the session's details, at most once for each stretch of code that changes them."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._due = False

    def touch(self) -> None:
        """Something that is shown has changed."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.show)

    def show(self) -> None:
        """Write the details now."""
        self._due = False
        workflow.set_current_details(self._text())


def snippet(text: str, *, length: int = 80) -> str:
    """The start of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def describe(
    status: SessionStatus,
    *,
    reason: StopReason | None,
    turn: int,
    step: int,
    queued: int,
    heard: str,
    said: str,
    waiting: Sequence[Call],
    trouble: str = "",
) -> str:
    """The session in a few lines of markdown: what it is doing, what it heard and said last, what it waits for."""
    why = f" ({reason.type})" if reason else ""
    # The empty line makes what follows a list.
    lines = [f"**{status.value}**{why}: turn {turn}, step {step}, {queued} message(s) in the queue", ""]
    if heard:
        lines.append(f"- user: {snippet(heard, length=_LONGEST)}")
    if said:
        lines.append(f"- agent: {snippet(said, length=_LONGEST)}")
    for call in waiting[:10]:
        verb = "result of" if call.kind == "custom" else "approval of"
        lines.append(f"- waits for the {verb} `{call.title or call.name}` (`{call.id}`)")
    if trouble:
        lines.append(f"- the export to the archive fails and is tried again: {snippet(trouble, length=_LONGEST)}")
    return "\n".join(lines).rstrip()
