"""Handles: an agent or a session with its owner, and the short verbs."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from sojourn.client.listing import Page
from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.content import ContentBlock, MessageBlock
from sojourn.types.event import (
    AgentCustomToolUse,
    AgentMcpToolUse,
    AgentMessage,
    AgentToolUse,
    Event,
    Remember,
    SessionEvent,
    UserEvent,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.explanation import SessionExplanation
from sojourn.types.file import FileMetadata
from sojourn.types.id import AgentId, EventId, ResourceId, SessionId
from sojourn.types.preview import Preview
from sojourn.types.question import Answers
from sojourn.types.resource import Resource, ResourceMount
from sojourn.types.session import Owner, PendingAction, SessionInfo, SessionSnapshot, SessionStatus, UpdateSessionInput

if TYPE_CHECKING:
    from sojourn.client.registry import AgentRegistry
    from sojourn.client.runtime import AgentRuntime

ToolUse = AgentToolUse | AgentCustomToolUse | AgentMcpToolUse | PendingAction | EventId | str


class AgentHandle:
    """An agent. See the methods of `AgentRuntime` for errors."""

    def __init__(self, registry: "AgentRegistry", id: AgentId, owner: Owner) -> None:
        self.id = id
        self.owner = owner
        self._registry = registry

    def __repr__(self) -> str:
        return f"AgentHandle({self.id!r})"

    async def get(self, *, version: int | None = None) -> AgentVersion:
        """One version, the latest by default."""
        return await self._registry.get_agent(self, version=version)

    async def versions(self) -> list[AgentVersion]:
        """All versions, newest first."""
        return await self._registry.agent_versions(self)

    async def update(self, definition: AgentDefinition, *, version: int | None = None) -> AgentVersion:
        """Store a new version; with ``version``, only if that is still the latest."""
        return await self._registry.update_agent(self, definition, version=version)

    async def archive(self) -> None:
        """Refuse new sessions and versions."""
        await self._registry.archive_agent(self)


class SessionHandle:
    """A session. See the methods of `AgentRuntime` for errors."""

    def __init__(self, runtime: "AgentRuntime", id: SessionId, owner: Owner) -> None:
        self.id = id
        self.owner = owner
        self._runtime = runtime

    def __repr__(self) -> str:
        return f"SessionHandle({self.id!r})"

    async def send(self, message: str | Sequence[MessageBlock] | UserEvent) -> UserEvent:
        """Store a message (text, content blocks, or any client event) and return it with its id."""
        (sent,) = await self._runtime.send_event(self, _event(message))
        return sent

    async def send_and_wait(self, message: str | UserMessage, *, timeout: timedelta | None = None) -> AgentMessage:
        """Send a message and wait for the last thing the agent says in its turn."""
        return await self._runtime.send_and_wait(self, message, timeout=timeout)

    async def events(
        self, *, from_seq: int | None = None, previews: bool = False
    ) -> AsyncGenerator[SessionEvent | Preview, None]:
        """Every event above ``from_seq``, then what comes; see `AgentRuntime.stream_events`."""
        async with self._runtime.follow(self, from_seq=from_seq, previews=previews) as events:
            async for event in events:
                yield event

    async def confirm(
        self, call: ToolUse, *, allow: bool, message: str | None = None, remember: Remember | None = None
    ) -> None:
        """Answer a tool call that asks for permission.

        Args:
            call: Which call.
            allow: Whether it may run.
            message: Tells the model why it is denied.
            remember: Allow the very same call from now on: in this session, for the agent, or in the workspace.
        """
        event = UserToolConfirmation(
            tool_use_id=call_id(call),
            result="allow" if allow else "deny",
            deny_message=None if allow else message,
            remember=remember,
        )
        await self._runtime.send_event(self, event)

    async def answer(
        self, call: ToolUse, content: str | Sequence[ContentBlock] | Answers, *, is_error: bool = False
    ) -> None:
        """Give the result of a custom tool, or answer the questions of `ask_user`; see `AgentRuntime.answer`."""
        await self._runtime.answer(self, call, content, is_error=is_error)

    async def pending_actions(self) -> list[PendingAction]:
        """The tool calls that wait for the client."""
        return await self._runtime.pending_actions(self)

    async def interrupt(self) -> None:
        """End the turn in progress; the session lives on."""
        await self._runtime.interrupt(self)

    async def pause(self) -> None:
        """Hold before the next step."""
        await self._runtime.pause(self)

    async def resume(self) -> None:
        """Go on."""
        await self._runtime.resume(self)

    async def update(self, change: UpdateSessionInput) -> None:
        """Change title, metadata, budget or, between turns, the agent's snapshot."""
        await self._runtime.update_session(self, change)

    async def resources(self) -> tuple[Resource, ...]:
        """What is mounted into its workspace."""
        return await self._runtime.list_resources(self)

    async def add_resource(self, mount: ResourceMount) -> Resource:
        """Mount a file or a repository."""
        return await self._runtime.add_resource(self, mount)

    async def rotate_resource(self, resource: ResourceId | str, authorization_token: str) -> Resource:
        """Use another token for a repository from now on."""
        return await self._runtime.rotate_resource(self, resource, authorization_token)

    async def remove_resource(self, resource: ResourceId | str) -> None:
        """Unmount a file or a repository."""
        await self._runtime.remove_resource(self, resource)

    async def files(self, *, limit: int = 20, page: str | None = None) -> Page[FileMetadata]:
        """Its files, newest first: copies of what is mounted, and what the agent has written."""
        return await self._runtime.list_files(session=self, limit=limit, page=page)

    async def archive(self, *, only_if_idle: bool = False) -> None:
        """End the session for good; its log stays readable."""
        await self._runtime.archive(self, only_if_idle=only_if_idle)

    async def delete(self, *, only_if_idle: bool = False) -> None:
        """Remove the session and everything stored about it."""
        await self._runtime.delete_session(self, only_if_idle=only_if_idle)

    async def status(self) -> SessionStatus:
        """Where the session stands."""
        return await self._runtime.status(self)

    async def info(self) -> SessionInfo:
        """What lists show of the session."""
        return await self._runtime.get_session(self)

    async def snapshot(self) -> SessionSnapshot:
        """The session with the agent that it runs."""
        return await self._runtime.session_snapshot(self)

    async def explain(self) -> SessionExplanation:
        """Why the session is in its state, what it waits for, and what to do next."""
        return await self._runtime.explain(self)

    async def wait_idle(self, *, timeout: timedelta | None = None) -> SessionStatus:
        """Wait until everything sent so far has been taken up and no turn is in progress."""
        return await self._runtime.wait_idle(self, timeout=timeout)


def _event(message: str | Sequence[MessageBlock] | UserEvent) -> UserEvent:
    if isinstance(message, str):
        return UserMessage.text(message)
    if isinstance(message, Event):
        return message
    return UserMessage(content=tuple(message))


def call_id(call: ToolUse) -> EventId:
    """The id of the call, in whatever way it is named."""
    return EventId(call) if isinstance(call, str) else call.id
