"""Sessions: starting, sending, control, lists, and their end."""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import PendingWorkflowTaskState
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from sojourn.client.answer import OpenCalls, answers, remembered
from sojourn.client.archived import FIRST_ARCHIVED_PAGE, ArchivedSessions, SessionFilter, is_archived_page
from sojourn.client.attachment import check_attached, check_hosted
from sojourn.client.deletion import Deletion
from sojourn.client.export import PATIENCE as EXPORT_PATIENCE
from sojourn.client.export import export_by_hand
from sojourn.client.failure import translated
from sojourn.client.file import files_of
from sojourn.client.listing import Page, check_limit, list_workflows
from sojourn.client.load import SessionLoads, check_load
from sojourn.client.ordering import Found, Order, Ordering
from sojourn.client.policy import PolicyStore
from sojourn.client.sandbox import SandboxCheck
from sojourn.client.snapshot import RunningAgents
from sojourn.client.spending import Spending
from sojourn.client.start import fixed_events, start_mark
from sojourn.client.trace import TraceHeader
from sojourn.client.update import execute_update
from sojourn.client.validation import (
    check_budget,
    check_definition,
    check_environment,
    check_events,
    check_readable,
    check_self_hosted,
    check_size,
)
from sojourn.types.account import Budget
from sojourn.types.agent import AgentVersion
from sojourn.types.archive import archive_of
from sojourn.types.chain import ChainReader
from sojourn.types.described import attribute, memo, session_info, session_status
from sojourn.types.environment import SandboxConfig
from sojourn.types.error import (
    CheckpointError,
    InvalidRequestError,
    SessionBusyError,
    SessionClosedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionStateError,
    StoreUnavailableError,
    ToolCallNotFoundError,
    ToolCallSettledError,
    WorkerUnavailableError,
)
from sojourn.types.event import UserEvent, UserToolConfirmation
from sojourn.types.export import ExportResult
from sojourn.types.id import DeploymentId, EnvironmentId, SessionId, VaultId, new_session_id, workflow_id
from sojourn.types.name import (
    ARCHIVE_UPDATE,
    QUEUED_MEMO,
    SESSION_WORKFLOW,
    START_MEMO,
    USER_ATTRIBUTE,
    USER_EVENTS_SIGNAL,
)
from sojourn.types.need import needs_of
from sojourn.types.payload import THRESHOLD_BYTES, store_of, storing
from sojourn.types.permission import PermissionPolicy
from sojourn.types.policy import PolicyChange
from sojourn.types.record import UserEvents
from sojourn.types.resource import Resource
from sojourn.types.session import (
    ArchiveInput,
    EnvironmentConfig,
    Owner,
    PendingAction,
    RollOver,
    SessionInfo,
    SessionInput,
    SessionSnapshot,
    SessionStatus,
)
from sojourn.types.start import TASK_TIMEOUT, start_attributes, start_memo, start_summary

_NAMESPACE = uuid.UUID("5a6f6a6f-7572-5e00-8000-7369676e616c")
_AT_ONCE = timedelta(seconds=5)

_AT_A_TIME = 16
"""Runs whose beginnings are read side by side."""


@dataclass(frozen=True)
class Located:
    """A session that exists and belongs to the caller, as it is described now."""

    id: SessionId
    workflow_id: str
    run_id: str
    """The latest run."""
    status: SessionStatus
    described: WorkflowExecutionInfo | SessionInfo
    """By the server, or by the archive when the server has forgotten it."""
    history_length: int = 0
    in_task: bool = False
    """Whether a workflow task is running; signals that come meanwhile enter history after it."""


@dataclass(frozen=True)
class LogEnd:
    """How far a session's log goes at this moment. Equal ends, equal logs."""

    first_run_id: str
    """Another one under the same session id is another session."""
    run_id: str
    history_length: int
    status: SessionStatus
    agent: AgentVersion
    """What the session runs."""


class SessionStore:
    """Reads and writes sessions. Only control needs a worker."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host
        self._trace = TraceHeader(client)
        self._policies = PolicyStore(client, task_queue=task_queue)
        archive = archive_of(client)
        self._archived = ArchivedSessions(client, archive) if archive is not None else None
        # The value is the run that a session was started with here, until it has been followed once.
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._loads = SessionLoads()
        self._files = files_of(client)
        self._agents = RunningAgents(client)
        self._spending = Spending(client)
        self._sandboxes = SandboxCheck(client, task_queue=task_queue)
        self._ordering = Ordering(client, self._archived)

    async def start(
        self,
        agent: AgentVersion,
        *,
        owner: Owner,
        environment: EnvironmentConfig,
        permissions: PermissionPolicy,
        title: str | None,
        metadata: Mapping[str, str],
        session_id: SessionId | None,
        initial_events: Sequence[UserEvent],
        roll_over: RollOver,
        environment_id: EnvironmentId | None = None,
        sandbox: SandboxConfig | None = None,
        deployment_id: DeploymentId | None = None,
        budget: Budget | None = None,
        vault_ids: tuple[VaultId, ...] = (),
        resources: tuple[Resource, ...] = (),
        interactive: bool = True,
        skip_permissions: bool = False,
    ) -> SessionId:
        """Start a session, with its first events in the same call if there are any."""
        check_definition(agent.definition)
        check_environment(environment)
        check_self_hosted(agent.definition, environment, sandbox)
        await check_budget(agent.definition, budget)
        await self._sandboxes.require(needs_of(agent.definition.tools, environment, sandbox))
        events = check_events(initial_events if session_id is None else fixed_events(session_id, initial_events))
        try:
            input = SessionInput(
                session_id=session_id or new_session_id(),
                owner=owner,
                agent=agent.model_copy(update={"created_at": None, "archived_at": None}),
                environment=environment,
                environment_id=environment_id,
                sandbox=sandbox,
                deployment_id=deployment_id,
                budget=budget,
                vault_ids=vault_ids,
                resources=resources,
                permissions=permissions,
                interactive=interactive,
                skip_permissions=skip_permissions,
                title=title,
                metadata=dict(metadata),
                roll_over=roll_over,
            )
        except ValidationError as error:
            raise InvalidRequestError.from_validation(error) from None
        check_hosted(input.sandbox, resources)
        await check_attached(self._files, events, owner, path="initial_events")
        await check_readable(self._client, input)
        # The server would take the id again, once it has forgotten the session.
        if session_id and self._archived and await self._archived.has(session_id, owner.workspace):
            raise SessionExistsError(session_id)
        if session_id and events:
            run_id = await self._start_once(input, events)
        else:
            run_id = await self._start(input, events)
        self._spending.started(workflow_id(owner.workspace, input.session_id), budget)
        self._remember(workflow_id(owner.workspace, input.session_id), owner, run_id=run_id)
        return input.session_id

    async def _start_once(self, input: SessionInput, events: list[UserEvent]) -> str:
        """Start a session under an id that somebody else may take at the same time.

        The server starts a workflow with a signal or, if it is there, signals it, and does not say which. So the start
        is marked; and if it was not this one, the events had the ids of the other's, and are not taken twice.
        """
        id, taken = workflow_id(input.owner.workspace, input.session_id), SessionExistsError(input.session_id)
        with translated(self._address):
            before = await start_mark(self._client, id)
        if before is not None:
            raise taken
        mark = uuid.uuid4().hex
        run_id = await self._start(input, events, {START_MEMO: mark})
        with translated(self._address):
            after = await start_mark(self._client, id)
        if after not in (mark, ""):
            raise taken
        return run_id

    async def _start(
        self, input: SessionInput, events: list[UserEvent], more_memo: Mapping[str, object] | None = None
    ) -> str:
        signal = UserEvents(sent=tuple(events))
        await check_size(self._client, signal)
        with translated(self._address, taken=SessionExistsError(input.session_id)):
            handle = await self._client.start_workflow(
                SESSION_WORKFLOW,
                input,
                id=workflow_id(input.owner.workspace, input.session_id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=start_attributes(input, signal, now=datetime.now(UTC)),
                memo={**start_memo(input), **(more_memo or {})},
                task_timeout=TASK_TIMEOUT,
                static_summary=start_summary(input),
                start_signal=USER_EVENTS_SIGNAL if events else None,
                start_signal_args=[signal] if events else [],
            )
        return handle.first_execution_run_id or ""

    async def entry(self, session_id: SessionId, owner: Owner, *, from_seq: int | None) -> tuple[str, int]:
        """The run to follow a session from, and how many history events it has at least.

        The whole log of a session that was started here is followed without asking, the first time.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        known = (workflow_id(owner.workspace, session_id), owner.user)
        if from_seq == 0 and (run_id := self._known.get(known)):
            self._known[known] = ""
            return run_id, 0
        located = await self.locate(session_id, owner)
        return located.run_id, located.history_length

    async def log_end(self, session_id: SessionId, owner: Owner) -> LogEnd:
        """How far the log goes; read it after that, and it goes at least so far.

        Raises:
            CheckpointError: The server has forgotten the latest run, and it is not in the archive.
            SessionNotFoundError: There is none, or it is another owner's.
        """
        located = await self.locate(session_id, owner)
        info, run_id = located.described, located.run_id
        with translated(self._address, missing=SessionNotFoundError(session_id)):
            running = await self._agents.of(located.workflow_id, run_id)
        first_run_id = info.first_run_id if isinstance(info, WorkflowExecutionInfo) else run_id
        return LogEnd(first_run_id, run_id, located.history_length, located.status, running.agent)

    async def locate(self, session_id: SessionId, owner: Owner) -> Located:
        """Find a session of this owner.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        try:
            return await self._locate_on_server(session_id, owner)
        except SessionNotFoundError:
            if self._archived is None:
                raise
        found = await self._archived.find(session_id, owner)
        id = workflow_id(owner.workspace, session_id)
        self._remember(id, owner)
        return Located(session_id, id, found.run_id, found.info.status, found.info)

    async def _locate_on_server(self, session_id: SessionId, owner: Owner) -> Located:
        id = workflow_id(owner.workspace, session_id)
        missing = SessionNotFoundError(session_id)
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace, execution=WorkflowExecution(workflow_id=id)
        )
        with translated(self._address, missing=missing):
            described = await self._client.workflow_service.describe_workflow_execution(
                request, retry=True, timeout=_AT_ONCE
            )
        info = described.workflow_execution_info
        if info.type.name != SESSION_WORKFLOW or attribute(info, USER_ATTRIBUTE) != owner.user:
            raise missing
        self._remember(id, owner)
        in_task = described.pending_workflow_task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED
        status, run_id = session_status(info), info.execution.run_id
        return Located(session_id, id, run_id, status, info, info.history_length, in_task)

    async def send(self, session_id: SessionId, owner: Owner, events: Sequence[UserEvent]) -> list[UserEvent]:
        """Store events, all or none. They are accepted when this returns; the work comes after.

        Returns:
            The events with their ids.

        Raises:
            InvalidRequestError: An event is empty, of a kind that is not supported, or too large; or it would start
                work, and the session has used up its budget (``code`` is ``budget_reached``).
            SessionBusyError: More waits or was sent during one step than a session can hold.
            SessionClosedError: The session has ended.
            SessionNotFoundError: There is none, or it is another owner's.
            ToolCallNotFoundError: An answer is for a call that nobody has made.
            ToolCallSettledError: An answer comes too late.
        """
        id = workflow_id(owner.workspace, session_id)
        checked = check_events(events)
        await check_attached(self._files, checked, owner)
        if (id, owner.user) not in self._known or self._spending.concerns(id, checked):
            located = await self.locate(session_id, owner)
            if self._spending.concerns(id, checked):
                await self._spending.check(session_id, id, located.described)
        fresh = await self._admitted(session_id, owner, checked)
        if wanted := remembered(fresh):
            await self._remember_rules(await self.locate(session_id, owner), owner, wanted)
        if fresh:
            record = UserEvents(sent=tuple(fresh))
            payloads = await check_size(self._client, record)
            await self._check_load(session_id, owner, record, sum(payload.ByteSize() for payload in payloads))
            await self._signal(session_id, owner, record, payloads)
        return checked

    async def _check_load(self, session_id: SessionId, owner: Owner, record: UserEvents, size_bytes: int) -> None:
        """Look at a session that gets a lot. What moves a turn on is always let through."""
        id = workflow_id(owner.workspace, session_id)
        if self._loads.add(id, events=len(record.sent), size_bytes=size_bytes):
            info = (await self.locate(session_id, owner)).described
            waits = any(event.type in ("user.message", "system.message") for event in record.sent)
            if waits and isinstance(info, WorkflowExecutionInfo):
                check_load(session_id, info, queued=await memo(self._client, info, QUEUED_MEMO, int) or 0)
            self._loads.looked(id)

    async def _admitted(self, session_id: SessionId, owner: Owner, events: list[UserEvent]) -> list[UserEvent]:
        """The events without answers that have been given before."""
        if not answers(events):
            return events
        located = await self.locate(session_id, owner)
        if located.status.is_terminal:
            raise SessionClosedError(session_id, status=located.status)
        latest = ChainReader(self._client, located.workflow_id, located.run_id)
        run = latest.run
        calls = await self._open_calls(located, latest)
        try:
            return _news(calls, events)
        except (ToolCallNotFoundError, ToolCallSettledError):
            if not calls.continued:
                raise
            # The runs before know which answers the calls were given.
            chain = ChainReader(self._client, located.workflow_id, run.first_run_id)
            with suppress(CheckpointError, SessionNotFoundError):
                calls = await self._open_calls(located, chain)
            return _news(calls, events)

    async def _remember_rules(self, located: Located, owner: Owner, wanted: list[UserToolConfirmation]) -> None:
        """Store what is allowed beyond the session. Before the answer is sent: one without the other is harmless so."""
        latest = ChainReader(self._client, located.workflow_id, located.run_id)
        run = latest.run
        calls = await self._open_calls(located, latest)
        if calls.continued and not all(calls.knows(event.tool_use_id) for event in wanted):
            # The run before has seen what the model wanted.
            first = ChainReader(self._client, located.workflow_id, run.first_run_id)
            calls = await self._open_calls(located, first)
        for scope, agent_id, rule in calls.rules(wanted):
            if scope != "session":
                change = PolicyChange(add=(rule,), agent_id=agent_id if scope == "agent" else None)
                await self._policies.change(owner.workspace, change)

    async def pending(self, session_id: SessionId, owner: Owner) -> list[PendingAction]:
        """The tool calls that wait for the client."""
        located = await self.locate(session_id, owner)
        if located.status.is_terminal:
            return []
        latest = ChainReader(self._client, located.workflow_id, located.run_id)
        return (await self._open_calls(located, latest)).pending

    async def _open_calls(self, located: Located, reader: ChainReader) -> OpenCalls:
        """The calls of the latest run, as told by all runs from the one on at which the reader stands."""
        calls = OpenCalls()
        read_run_id = ""
        with translated(self._address, missing=SessionNotFoundError(located.id)):
            while not reader.ended and not (read_run_id == located.run_id and _is_past(reader, located)):
                run, read_run_id = reader.run, reader.run_id
                page = await reader.read(wait=_AT_ONCE)
                if run.start is not None and not calls.begun:
                    calls.begin(run.start)
                for stored in page or ():
                    calls.feed(stored.record)
        return calls

    async def _signal(self, session_id: SessionId, owner: Owner, record: UserEvents, payloads: list[Payload]) -> None:
        """Send with a request id of our own: the server drops a repeated call by itself."""
        id = workflow_id(owner.workspace, session_id)
        size = sum(payload.ByteSize() for payload in payloads)
        if size >= THRESHOLD_BYTES and (store := store_of(self._client)) is not None:
            payloads = await storing(store, owner=id).encode([record])
        request = SignalWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=id),
            signal_name=USER_EVENTS_SIGNAL,
            input=Payloads(payloads=payloads),
            header=self._trace.header(),
            identity=self._client.identity,
            request_id=str(uuid.uuid5(_NAMESPACE, " ".join(event.id for event in record.sent))),
        )
        try:
            await self._client.workflow_service.signal_workflow_execution(request, retry=True)
        except RPCError as error:
            if "limit for signal" in error.message:
                raise SessionBusyError(
                    session_id, reason="has been sent too much in one step; wait until the step has ended"
                ) from None
            if error.status is not RPCStatusCode.NOT_FOUND:
                with translated(self._address):
                    raise
            # A closed workflow is "not found" for signals; only a description tells it from one that never was.
            located = await self.locate(session_id, owner)
            raise SessionClosedError(session_id, status=located.status) from None

    async def control(self, session_id: SessionId, owner: Owner, update: str, argument: object | None = None) -> None:
        """Execute one of the updates that can be refused.

        Raises:
            ConflictError: The session is in the wrong state; nothing has changed.
            SessionNotFoundError: There is none, or it is another owner's.
            WorkerUnavailableError: No worker took it in time.
        """
        located = await self.locate(session_id, owner)
        if located.status.is_terminal:
            raise SessionClosedError(session_id, status=located.status)
        await execute_update(
            self._client,
            located.workflow_id,
            update,
            argument,
            result=None,
            missing=SessionClosedError(session_id, status=SessionStatus.COMPLETED),
            task_queue=self._task_queue,
        )

    async def info(self, session_id: SessionId, owner: Owner) -> SessionInfo:
        """What lists show of the session."""
        described = (await self.locate(session_id, owner)).described
        return described if isinstance(described, SessionInfo) else await session_info(self._client, described)

    async def snapshot(self, session_id: SessionId, owner: Owner) -> SessionSnapshot:
        """The session with the agent that it runs.

        Raises:
            CheckpointError: The server has forgotten its last run, and it is not in the archive.
            SessionNotFoundError: There is none, or it is another owner's.
        """
        located = await self.locate(session_id, owner)
        info = located.described
        info = info if isinstance(info, SessionInfo) else await session_info(self._client, info)
        return await self._snapshot(info, located.run_id)

    async def snapshots(
        self, wanted: SessionFilter, *, order: Order, limit: int, cursor: str | None
    ) -> Page[SessionSnapshot]:
        """The same for one page of a list, without those that have been deleted meanwhile."""
        found = await self._ordering.page(wanted, order=order, limit=limit, cursor=cursor)
        some = asyncio.Semaphore(_AT_A_TIME)

        async def one(each: Found) -> SessionSnapshot | None:
            async with some:
                with suppress(SessionNotFoundError):
                    return await self._snapshot(each.info, each.run_id)
            return None

        there = [each for each in await asyncio.gather(*map(one, found.data)) if each is not None]
        return Page(there, found.next_page, found.prev_page)

    async def _snapshot(self, info: SessionInfo, run_id: str) -> SessionSnapshot:
        with translated(self._address, missing=SessionNotFoundError(info.id)):
            running = await self._agents.of(workflow_id(info.owner.workspace, info.id), run_id)
        resources = running.resources if info.resources is None else info.resources
        return SessionSnapshot(info=info, agent=running.agent, vault_ids=running.vault_ids, resources=resources)

    async def page(self, wanted: SessionFilter, *, limit: int, cursor: str | None) -> Page[SessionInfo]:
        """Sessions of a workspace, newest first; after those that the server has, those that only the archive has."""
        check_limit(limit)
        if self._archived is not None and is_archived_page(cursor):
            with translated(self._address):
                return Page(*await self._archived.page(wanted, limit=limit, cursor=cursor or ""))
        with translated(self._address):
            infos, next_page = await list_workflows(self._client, wanted.query(), limit=limit, page=cursor)
        found = [await session_info(self._client, info) for info in infos]
        if self._archived is None or next_page is not None:
            return Page(found, next_page)
        try:
            more, next_page = await self._archived.page(wanted, limit=limit - len(found))
        except StoreUnavailableError:
            # What the server has can be shown all the same; whoever goes on to the rest is told.
            if not found:
                raise
            more, next_page = [], FIRST_ARCHIVED_PAGE
        return Page([*found, *more], next_page)

    async def export(
        self, session_id: SessionId, owner: Owner, *, timeout: timedelta | None = EXPORT_PATIENCE
    ) -> ExportResult:
        """Export what the archive lacks of a session; see `export_by_hand`."""
        located = await self.locate(session_id, owner)
        if isinstance(located.described, SessionInfo):
            return ExportResult(outcome="stored")
        return await export_by_hand(
            self._client,
            located.workflow_id,
            located.run_id,
            ended=located.status.is_terminal,
            task_queue=self._task_queue,
            timeout=timeout,
        )

    async def delete(self, session_id: SessionId, owner: Owner, *, only_if_idle: bool = False) -> None:
        """Remove the session and everything stored about it; see `Deletion`.

        Raises:
            SessionStateError: A turn is in progress, and the session is to be deleted only while idle.
            SessionNotFoundError: There is none, or it is another owner's, or it was deleted before.
        """
        id = workflow_id(owner.workspace, session_id)
        deletion = Deletion(self._client, id, owner)
        self._known.pop((id, owner.user), None)
        with translated(self._address):
            try:
                located = await self.locate(session_id, owner)
            except SessionNotFoundError:
                if await deletion.resume():
                    return
                raise
            if only_if_idle:
                await self._end(located, owner)
            await deletion.run(located.run_id)
        self._known.pop((id, owner.user), None)

    async def _end(self, located: Located, owner: Owner) -> None:
        """Archive a session that is to be deleted, so that nobody can begin a turn in it any more."""
        try:
            await self.control(located.id, owner, ARCHIVE_UPDATE, ArchiveInput(only_if_idle=True))
        except SessionClosedError:
            return
        except WorkerUnavailableError:
            # Without a worker nothing begins; what the session shows is what it is.
            if located.status in (SessionStatus.RUNNING, SessionStatus.RESCHEDULING):
                raise SessionStateError("session is running; wait until it is idle, or interrupt it first") from None

    def _remember(self, workflow_id: str, owner: Owner, *, run_id: str = "") -> None:
        self._known[workflow_id, owner.user] = run_id
        if len(self._known) > 10_000:
            self._known.popitem(last=False)


def _news(calls: OpenCalls, events: list[UserEvent]) -> list[UserEvent]:
    """The events without answers that have been given before."""
    stale = {id(event) for event in answers(events) if not calls.admit(event)}
    return [event for event in events if id(event) not in stale]


def _is_past(reader: ChainReader, located: Located) -> bool:
    return reader.run_id != located.run_id or reader.event_id >= located.history_length
