"""`AgentRuntime`: the whole of sojourn as one object."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from temporalio.client import Client, Plugin
from temporalio.runtime import Runtime
from temporalio.service import RPCError

from sojourn.client.connection import connect_client
from sojourn.client.control import SessionControl
from sojourn.client.deployment_run import RunStore
from sojourn.client.directory import EnvironmentRegistry
from sojourn.client.environment import EnvironmentStore
from sojourn.client.explain import explain
from sojourn.client.failure import translated
from sojourn.client.farewell import check_kept
from sojourn.client.file import files_of
from sojourn.client.handle import SessionHandle, ToolUse, call_id
from sojourn.client.log import Follower, SessionLogs
from sojourn.client.outcome import TurnWatch
from sojourn.client.policy import PolicyRegistry, PolicyStore
from sojourn.client.poll import LONG_POLLS, PollBudget
from sojourn.client.question import asked, result_blocks
from sojourn.client.reading import Session
from sojourn.client.registry import Agent
from sojourn.client.resource import ResourceStore
from sojourn.client.schedule import ScheduleStore
from sojourn.client.schedule_registry import ScheduleRegistry
from sojourn.client.session import LogEnd, SessionStore
from sojourn.client.situation import look
from sojourn.client.update import has_worker
from sojourn.client.validation import check_session_id
from sojourn.client.vault import VaultStore
from sojourn.client.vault_registry import VaultRegistry
from sojourn.types.account import Budget
from sojourn.types.agent import AgentVersion
from sojourn.types.content import ContentBlock
from sojourn.types.error import AgentArchivedError, SessionNotFoundError, WorkerUnavailableError
from sojourn.types.event import (
    AgentMessage,
    SessionEvent,
    SessionTerminated,
    UserCustomToolResult,
    UserEvent,
    UserInterrupt,
    UserMessage,
)
from sojourn.types.explanation import SessionExplanation
from sojourn.types.id import DeploymentId, EnvironmentId, SessionId, VaultId
from sojourn.types.name import TASK_QUEUE
from sojourn.types.permission import PermissionPolicy
from sojourn.types.preview import Preview
from sojourn.types.question import Answers
from sojourn.types.resource import ResourceMount
from sojourn.types.seal import Sealer
from sojourn.types.session import (
    EnvironmentConfig,
    Owner,
    PendingAction,
    RollOver,
    SessionStatus,
)

if TYPE_CHECKING:
    from sojourn.client.embedded import Hooks, Scripts, Tools


class AgentRuntime(SessionControl, ScheduleRegistry, EnvironmentRegistry, VaultRegistry, PolicyRegistry):
    """Creates agents, starts sessions, and talks to them. Safe to share between tasks of one event loop.

    Everything belongs to an owner: the runtime's own, or the one given to a call. What belongs to another owner does
    not exist. Handles remember their owner.
    """

    def __init__(
        self,
        client: Client,
        *,
        owner: Owner | None = None,
        task_queue: str = TASK_QUEUE,
        long_polls: int = LONG_POLLS,
        sealer: Sealer | None = None,
    ) -> None:
        """Use a Temporal client that is connected with `sojourn.types.data_converter`.

        Args:
            client: The connection.
            owner: Who owns what is made without naming an owner.
            task_queue: Where the workers are.
            long_polls: Long polls this process may hold; keep all processes together under the server's limit.
            sealer: Seals the secrets of credentials; by default with the keys of ``SOJOURN_VAULT_KEYS``.
        """
        sessions = SessionStore(client, task_queue=task_queue)
        super().__init__(client, owner=owner or Owner(), task_queue=task_queue, sessions=sessions)
        self.client = client
        self.task_queue = task_queue
        self._address = client.service_client.config.target_host
        self._policies = PolicyStore(client, task_queue=task_queue)
        self._environments = EnvironmentStore(client, task_queue=task_queue)
        self._files = files_of(client)
        self._resources = ResourceStore(client, sessions, sealer=sealer)
        self._vaults = VaultStore(client, task_queue=task_queue, sealer=sealer)
        self._schedules = ScheduleStore(
            client,
            agents=self._agents,
            environments=self._environments,
            vaults=self._vaults,
            task_queue=task_queue,
        )
        self._runs = RunStore(client, task_queue=task_queue)
        self._logs = SessionLogs(client, PollBudget(long_polls))

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: str | None = None,
        *,
        namespace: str | None = None,
        profile: str | None = None,
        api_key: str | None = None,
        store: str | None = None,
        owner: Owner | None = None,
        task_queue: str = TASK_QUEUE,
        plugins: Sequence[Plugin] = (),
        sdk_runtime: Runtime | None = None,
        long_polls: int = LONG_POLLS,
    ) -> "AsyncGenerator[AgentRuntime, None]":
        """Connect as Temporal's environment configuration says (see `connect_client`); arguments beat it.

        Raises:
            ServerNotReadyError: The configuration cannot be read, or the server refuses it.
            ServerUnavailableError: Nothing answers.
        """
        client = await connect_client(
            address,
            namespace=namespace,
            profile=profile,
            api_key=api_key,
            store=store,
            plugins=plugins,
            sdk_runtime=sdk_runtime,
        )
        runtime = cls(client, owner=owner, task_queue=task_queue, long_polls=long_polls)
        try:
            yield runtime
        finally:
            await runtime.close()

    @classmethod
    @asynccontextmanager
    async def embedded(
        cls,
        *,
        tools: "Tools" = (),
        hooks: "Hooks" = (),
        scripts: "Scripts | None" = None,
        data: Path | None = None,
        store: str | None = None,
        port: int | None = None,
        ui_port: int | None = None,
        sandbox: str | None = "auto",
        owner: Owner | None = None,
    ) -> "AsyncGenerator[AgentRuntime, None]":
        """Start everything in and beside this process: a Temporal server with Web UI and a worker.

        Args:
            tools: Tools for the worker: functions, modules, or import paths of modules.
            hooks: Hooks for the worker: hooks, modules, or import paths of modules.
            scripts: Scripted models by name.
            data: Folder for the database; ``None`` keeps everything in memory.
            store: URL of the object store; by default in the folder, or in memory.
            port: Port of the server; ``None`` takes a free one.
            ui_port: Port of the Web UI; ``None`` takes a free one.
            sandbox: Where agents' commands run: ``auto``, ``bubblewrap``, ``docker``, or ``local``, which protects
                nothing. ``None`` refuses sessions that need one.
            owner: Who owns what is made without naming an owner.

        Raises:
            ServerNotReadyError: There is no `temporal` command, or the server did not start.
        """
        # Here, because only those who start everything have the worker's dependencies installed.
        from sojourn.client.embedded import embedded

        started = embedded(
            tools=tools,
            hooks=hooks,
            scripts=scripts,
            data=data,
            store=store,
            port=port,
            ui_port=ui_port,
            sandbox=sandbox,
        )
        async with started as server:
            runtime = cls(server.client, owner=owner)
            try:
                yield runtime
            finally:
                await runtime.close()

    async def close(self) -> None:
        """Stop following sessions. The connection closes with the process."""
        await self._logs.close()
        # The SDK's threads let go of cancelled calls a moment later; a process that exits before may abort (exit 134).
        await asyncio.sleep(0.1)

    # --- sessions --------------------------------------------------------------------------------------------------

    async def start_session(
        self,
        agent: Agent,
        *,
        owner: Owner | None = None,
        environment: EnvironmentConfig | None = None,
        permissions: PermissionPolicy | None = None,
        title: str | None = None,
        metadata: Mapping[str, str] | None = None,
        session_id: SessionId | str | None = None,
        initial_events: Sequence[UserEvent] = (),
        roll_over: RollOver | None = None,
        environment_id: EnvironmentId | str | None = None,
        deployment_id: DeploymentId | str | None = None,
        budget: Budget | None = None,
        vault_ids: Sequence[VaultId | str] = (),
        resources: Sequence[ResourceMount] = (),
        interactive: bool = True,
        skip_permissions: bool = False,
    ) -> SessionHandle:
        """Start a session with the agent's latest version, or with the version given.

        Args:
            agent: Which agent.
            owner: To whom the session belongs; by default the agent handle's or the runtime's.
            environment: Variables and working directory of its sandbox.
            permissions: Rules of this session; among equally narrow ones they beat the agent's.
            title: For people.
            metadata: Up to 16 pairs of strings.
            session_id: An id of your own, to start at most one session for something.
            initial_events: Sent with the start, in one call.
            roll_over: When a run of the workflow gives way to the next.
            environment_id: The environment it runs in: what its sandbox may reach, and what is installed there. Without
                one it has no network.
            deployment_id: The deployment that started it, for lists.
            budget: What it may cost at list price; can be raised or removed later, and not be added.
            vault_ids: Where its credentials are, up to 50; the first that has one for a server or variable counts.
            resources: Files and repositories to mount into its workspace, up to 500.
            interactive: Whether somebody is there to be asked. If not, what would be asked is denied.
            skip_permissions: Allow all that the workspace's and the worker's rules do not deny; see `update_session`.

        Raises:
            AgentArchivedError: It takes no new sessions.
            AgentNotFoundError: There is no such agent in the workspace.
            EnvironmentArchivedError: It takes no new sessions.
            EnvironmentNotFoundError: There is no such environment in the workspace.
            FileStoreMissingError: There are resources, and this process has no object store.
            InvalidRequestError: The definition or the environment needs what no worker has; or there is a budget and no
                known price of the model (``code`` is ``model_not_budgetable``); or a resource cannot be mounted.
            SessionExistsError: The id is taken.
            VaultArchivedError: A vault takes no new sessions.
            VaultNotFoundError: A vault is not in the workspace.
        """
        agent_id, agent_owner = self._agent(agent, None)
        owner = owner or agent_owner
        pinned = agent if isinstance(agent, AgentVersion) else None
        version = pinned or await self._agents.get(agent_id, workspace=owner.workspace)
        if version.archived_at is not None:
            raise AgentArchivedError(agent_id)
        admitted = await self._admitted(environment_id, owner)
        chosen = check_session_id(session_id) if session_id is not None else None
        async with self._resources.mounting(resources, owner=owner, session_id=chosen) as mounted:
            started = await self._sessions.start(
                version,
                owner=owner,
                environment=environment or EnvironmentConfig(),
                permissions=permissions or PermissionPolicy(),
                title=title,
                metadata=metadata or {},
                session_id=mounted.session_id,
                initial_events=initial_events,
                roll_over=roll_over or RollOver(),
                environment_id=admitted.id if admitted else None,
                sandbox=admitted.config if admitted else None,
                deployment_id=DeploymentId(deployment_id) if deployment_id is not None else None,
                budget=budget,
                vault_ids=await self._vaults.admit([VaultId(id) for id in vault_ids], workspace=owner.workspace),
                resources=mounted.resources,
                interactive=interactive,
                skip_permissions=skip_permissions,
            )
        return SessionHandle(self, started, owner)

    def session(self, session_id: SessionId | str, *, owner: Owner | None = None) -> SessionHandle:
        """A handle on a session that exists; nothing is looked up."""
        return SessionHandle(self, SessionId(session_id), owner or self.owner)

    async def send_event(self, session: Session, *events: UserEvent, owner: Owner | None = None) -> list[UserEvent]:
        """Store events, all or none, in order. They are safe when this returns; the work comes after.

        An event's id is its idempotency key: sent again, it is the same event.

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
        session_id, owner = self._session(session, owner)
        sent = await self._sessions.send(session_id, owner, events)
        self._logs.poke(f"{owner.workspace}/{session_id}")
        return sent

    async def send_and_wait(
        self,
        session: Session,
        message: UserMessage | str,
        *,
        timeout: timedelta | None = None,
        owner: Owner | None = None,
    ) -> AgentMessage:
        """Send a message and wait for the last thing the agent says in its turn.

        Cancelling the wait leaves the turn running.

        Args:
            session: Which session.
            message: The message, or its text.
            timeout: Longest wait; ``None`` waits as long as the turn takes.
            owner: Whose; by default the handle's or the runtime's.

        Raises:
            ActionRequiredError: The turn waits for an answer that only the caller can give.
            BudgetReachedError: The turn waits until the session's budget is raised or removed.
            ProviderError: The model could not be reached, or refused.
            SessionClosedError: The session ended first.
            TimeoutError: ``timeout`` passed first.
            TurnInterruptedError: The turn was interrupted.
            WorkerUnavailableError: No worker serves the task queue.
        """
        session_id, owner = self._session(session, owner)
        message = UserMessage.text(message) if isinstance(message, str) else message
        handle = SessionHandle(self, session_id, owner)
        async with self.follow(handle, from_seq=None) as events:
            (sent,) = await self.send_event(handle, message)
            return await TurnWatch(session_id, sent.id).result(events, self._check_worker, timeout=timeout)

    @asynccontextmanager
    async def follow(
        self, session: Session, *, from_seq: int | None = None, previews: bool = False, owner: Owner | None = None
    ) -> AsyncGenerator[AsyncGenerator[SessionEvent | Preview, None], None]:
        """`stream_events` as a context: everything sent after the block was entered will be seen in it.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        session_id, owner = self._session(session, owner)
        run_id, history_length = await self._sessions.entry(session_id, owner, from_seq=from_seq)
        with translated(self._address, missing=SessionNotFoundError(session_id)):
            async with (
                self._logs.follow(
                    f"{owner.workspace}/{session_id}",
                    run_id,
                    history_length=history_length,
                    from_seq=from_seq,
                    previews=previews,
                ) as follower,
                aclosing(self._told(follower, session_id, owner)) as events,
            ):
                yield events

    async def _told(
        self, follower: Follower, session_id: SessionId, owner: Owner
    ) -> AsyncGenerator[SessionEvent | Preview, None]:
        """What a follower sees. Its errors are translated here too, for whoever catches them inside the block."""
        event: SessionEvent | Preview | None = None
        with translated(self._address, missing=SessionNotFoundError(session_id)):
            async with aclosing(aiter(follower)) as events:
                async for event in events:
                    yield event
            if not isinstance(event, SessionTerminated):
                await check_kept(self._logs, self._sessions, session_id, owner)

    async def stream_events(
        self,
        session: Session,
        *,
        from_seq: int | None = None,
        previews: bool = False,
        owner: Owner | None = None,
    ) -> AsyncGenerator[SessionEvent | Preview, None]:
        """Every event with a number above ``from_seq``, in order, once; then what comes, until the session ends.

        Needs no worker. A slow consumer loses nothing and slows nobody.

        Args:
            session: Which session.
            from_seq: Number of the last event that is not wanted; 0 is everything, ``None`` only what comes from now.
            previews: Also yield `EventStart`, `EventDelta` and `ToolProgress` while something is being written.
            owner: Whose; by default the handle's or the runtime's.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's, or it was deleted meanwhile.
        """
        async with self.follow(session, from_seq=from_seq, previews=previews, owner=owner) as events:
            async for event in events:
                yield event

    async def list_events(
        self, session: Session, *, from_seq: int = 0, limit: int | None = None, owner: Owner | None = None
    ) -> list[SessionEvent]:
        """The events that exist now and have a number above ``from_seq``, oldest first.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        session_id, owner = self._session(session, owner)
        located = await self._sessions.locate(session_id, owner)
        found: list[SessionEvent] = []
        with translated(self._address, missing=SessionNotFoundError(session_id)):
            async for event in self._logs.read(located.workflow_id, located.run_id, after=from_seq):
                if limit is not None and len(found) >= limit:
                    break
                found.append(event)
        return found

    async def log_end(self, session: Session, *, owner: Owner | None = None) -> LogEnd:
        """How far the log goes now, and the agent that the session runs. Raises what `get_session` does."""
        return await self._sessions.log_end(*self._session(session, owner))

    async def answer(
        self,
        session: Session,
        call: ToolUse,
        content: str | Sequence[ContentBlock] | Answers,
        *,
        is_error: bool = False,
        owner: Owner | None = None,
    ) -> None:
        """Give the result of a custom tool, or answer the questions of `ask_user`.

        Args:
            session: Which session.
            call: Which call: its event, or its id.
            content: The result as text or blocks; or answers, one for each question in their order, or by the
                question's text or header. An answer is the label of an option or words of one's own, and a list of
                them where the question takes several.
            is_error: The tool has failed, and the content says how.
            owner: Whose; by default the handle's or the runtime's.

        Raises:
            InvalidRequestError: The answers do not fit the questions.
            ToolCallNotFoundError: Nobody has made the call.
            ToolCallSettledError: It has a result already.
        """
        blocks = result_blocks(content, is_error=is_error, questions=call)
        if blocks is None:
            events = await self.list_events(session, owner=owner)
            blocks = result_blocks(content, is_error=is_error, questions=asked(events, call))
        event = UserCustomToolResult(custom_tool_use_id=call_id(call), content=blocks or (), is_error=is_error)
        await self.send_event(session, event, owner=owner)

    async def interrupt(self, session: Session, *, owner: Owner | None = None) -> None:
        """End the turn in progress and keep what it has produced; queued messages go next."""
        await self.send_event(session, UserInterrupt(), owner=owner)

    async def status(self, session: Session, *, owner: Owner | None = None) -> SessionStatus:
        """Where the session stands, as of its last workflow task. Needs no worker.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        return (await self._sessions.locate(*self._session(session, owner))).status

    async def explain(self, session: Session, *, owner: Owner | None = None) -> SessionExplanation:
        """Why the session is in its state, what it waits for, and what to do next. Needs no worker.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        located = await self._sessions.locate(*self._session(session, owner))
        with translated(self._address, missing=SessionNotFoundError(located.id)):
            return explain(await look(self.client, located))

    async def pending_actions(self, session: Session, *, owner: Owner | None = None) -> list[PendingAction]:
        """The tool calls that wait for the client. Needs no worker."""
        return await self._sessions.pending(*self._session(session, owner))

    async def wait_idle(
        self, session: Session, *, timeout: timedelta | None = None, owner: Owner | None = None
    ) -> SessionStatus:
        """Wait until everything sent so far has been taken up and no turn is in progress.

        Cancelling the wait leaves the session untouched.

        Args:
            session: Which session.
            timeout: Longest wait; ``None`` waits as long as the session lives.
            owner: Whose; by default the handle's or the runtime's.

        Returns:
            ``idle``, also when the session waits for an answer, or the status in which it ended.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
            TimeoutError: ``timeout`` passed first.
            WorkerUnavailableError: No worker serves the task queue.
        """
        session_id, owner = self._session(session, owner)
        async with asyncio.timeout(timeout.total_seconds() if timeout is not None else None):
            while not await self._settled(session_id, owner):  # noqa: ASYNC110 (the server does not tell)
                await asyncio.sleep(0.02)
        status = await self.status(session_id, owner=owner)
        return status if status.is_terminal else SessionStatus.IDLE

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _settled(self, session_id: SessionId, owner: Owner) -> bool:
        """Wait until no turn is in progress. False if something that was sent may not be in the log yet."""
        located = await self._sessions.locate(session_id, owner)
        with translated(self._address, missing=SessionNotFoundError(session_id)):
            async with self._logs.follow(
                located.workflow_id,
                located.run_id,
                history_length=located.history_length,
                from_seq=None,
                previews=False,
            ) as follower:
                return await follower.settled(self._check_worker) or not located.in_task

    async def _check_worker(self) -> None:
        """Fail a wait that nobody will end.

        Raises:
            WorkerUnavailableError: No worker serves the task queue.
        """
        try:
            found = await has_worker(self.client, self.task_queue)
        except RPCError:
            return
        if not found:
            raise WorkerUnavailableError(self.task_queue)
