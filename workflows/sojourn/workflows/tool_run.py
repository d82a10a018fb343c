"""Running one tool call of a turn: on any worker, on the one that holds the workspace, or on the one that asked."""

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

from sojourn.workflows.activity import Host, start_run_tool, tool_outcome
from sojourn.workflows.call import Call, Calls, Resumption
from sojourn.workflows.journal import Journal
from sojourn.workflows.mcp import McpServers
from sojourn.workflows.watch import Watch
from sojourn.workflows.workspace import Workspace, is_lost, refusal_of

with workflow.unsafe.imports_passed_through():
    from sojourn.types.agent import Limits
    from sojourn.types.event import ToolResultEvent
    from sojourn.types.record import RunToolInput, Warned

T = TypeVar("T")

_MOVES = 3
"""How often a call may find its workspace gone before it is given up."""

_UNANSWERED = "The MCP server asked a question, and the worker that was connected to it is gone. The call was given up."


class RunningTurn(Protocol):
    """What a call needs of its turn."""

    calls: Calls
    interrupted: bool

    async def tracked(self, handle: asyncio.Task[T]) -> T:
        """Await an activity, or what it needs, so that an interrupt can cancel it."""
        ...

    def settle(self, call: Call, result: ToolResultEvent) -> None:
        """Give a call its one result."""
        ...

    def warn(self, warnings: Sequence[Warned]) -> None:
        """Say which hooks have failed."""
        ...


class ToolRunner:
    """Runs the calls of one turn."""

    def __init__(
        self,
        turn: RunningTurn,
        *,
        limits: Limits,
        journal: Journal,
        watch: Watch,
        workspace: Workspace,
        mcp: McpServers,
    ) -> None:
        self._turn = turn
        self._limits = limits
        self._journal = journal
        self._watch = watch
        self._workspace = workspace
        self._mcp = mcp

    async def run(self, call: Call) -> None:
        """Run it, and see to it that it gets its result, unless it waits for answers to questions."""
        try:
            if call.place == "workspace":
                await self._run_in_workspace(call)
            elif (resumption := self._turn.calls.resume(call)) is not None:
                await self._go_on(call, resumption)
            else:
                await self._run_at(call)
        except ActivityError as error:
            # What may be repeated and was to be stopped anyway needs no check before it is tried again.
            stopped = self._turn.interrupted and call.idempotent
            self._turn.settle(call, call.result("interrupted" if stopped else tool_outcome(error)))

    async def _run_in_workspace(self, call: Call) -> None:
        """Run a call where the workspace is. Where it turns out to be nowhere, it is opened anew before."""
        for _ in range(_MOVES):
            try:
                await self._turn.tracked(asyncio.create_task(self._workspace.ready()))
            except ActivityError as error:
                if is_lost(error) and not self._turn.interrupted:
                    continue
                return self._turn.settle(call, call.result("error", refusal_of(error)))
            except asyncio.CancelledError:
                return self._turn.settle(call, call.result("interrupted"))
            generation, queue = self._workspace.generation, self._workspace.queue
            try:
                return await self._run_at(call, Host(queue, self._limits.workspace_timeout), generation)
            except ActivityError as error:
                if not is_lost(error) or self._turn.interrupted:
                    raise
                self._workspace.lost(generation)
        self._turn.settle(call, call.result("error", "The tool did not run: no worker could keep the workspace."))

    async def _go_on(self, call: Call, resumption: Resumption) -> None:
        """Go on with a call whose MCP server has asked questions, on the worker that is connected to the server."""
        try:
            await self._run_at(call, Host(resumption.queue, self._limits.workspace_timeout), resumption=resumption)
        except ActivityError as error:
            if not is_lost(error) or self._turn.interrupted:
                raise
            self._turn.settle(call, call.result("error", _UNANSWERED))

    async def _run_at(
        self, call: Call, host: Host | None = None, generation: int = 0, resumption: Resumption | None = None
    ) -> None:
        notice = self._workspace.touched() if generation else ""
        record = RunToolInput(
            tool_use_id=call.id,
            name=call.name,
            generation=generation,
            notice=notice,
            mcp=call.kind == "mcp",
            answered=resumption.answered if resumption else (),
            withdrawn=resumption.withdrawn if resumption else (),
            said=self._journal.take(),
        )
        self._journal.count(record)
        timeout = call.timeout or self._limits.tool_timeout
        repeats = call.idempotent and resumption is None
        handle = start_run_tool(record, timeout=timeout, idempotent=repeats, summary=call.title, host=host)
        result = await self._turn.tracked(handle)
        self._journal.count(result)
        self._turn.warn(result.warnings)
        self._mcp.heard(call.mcp_server_name, result)
        if result.mcp is not None and not result.is_final:
            return self._turn.calls.ask(call, result.mcp, at=workflow.now())
        call.settled = True
        self._watch.tool_settled(call, result.outcome)
