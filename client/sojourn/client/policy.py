"""The rules of a workspace: one workflow, read from its memo."""

from contextlib import suppress

from pydantic import ValidationError
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError

from sojourn.client.failure import translated
from sojourn.client.handle import AgentHandle
from sojourn.client.update import execute_update
from sojourn.types.agent import AgentVersion
from sojourn.types.chain import described_run
from sojourn.types.described import memo
from sojourn.types.error import InternalError, InvalidRequestError
from sojourn.types.id import AgentId, policy_workflow_id
from sojourn.types.name import CHANGE_POLICY_UPDATE, POLICY_MEMO, POLICY_WORKFLOW, WORKSPACE_ATTRIBUTE
from sojourn.types.permission import Permission, PermissionPolicy
from sojourn.types.policy import PolicyChange, PolicyInput, WorkspacePolicy
from sojourn.types.rule import Rule
from sojourn.types.session import Owner


class PolicyStore:
    """Reads and writes the rules of workspaces. Reading needs no worker; changes do."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host

    async def get(self, workspace: str) -> WorkspacePolicy:
        """The rules as they are now; none where nothing was ever said."""
        with translated(self._address):
            info = await described_run(self._client, policy_workflow_id(workspace))
            if info is None or info.type.name != POLICY_WORKFLOW:
                return WorkspacePolicy()
            return await memo(self._client, info, POLICY_MEMO, WorkspacePolicy) or WorkspacePolicy()

    async def change(self, workspace: str, change: PolicyChange) -> WorkspacePolicy:
        """Change the rules. They hold everywhere within two seconds.

        Raises:
            ConflictError: They are at another version than the caller has seen.
            InvalidRequestError: They would be too many.
            WorkerUnavailableError: No worker took it in time.
        """
        await self._start(workspace)
        return await execute_update(
            self._client,
            policy_workflow_id(workspace),
            CHANGE_POLICY_UPDATE,
            change,
            result=WorkspacePolicy,
            missing=InternalError(f"the rules of workspace {workspace!r} are gone; try again"),
            task_queue=self._task_queue,
        )

    async def _start(self, workspace: str) -> None:
        """Begin to keep rules for a workspace, unless that was done before."""
        with translated(self._address), suppress(WorkflowAlreadyStartedError):
            await self._client.start_workflow(
                POLICY_WORKFLOW,
                PolicyInput(workspace=workspace),
                id=policy_workflow_id(workspace),
                task_queue=self._task_queue,
                search_attributes=TypedSearchAttributes([SearchAttributePair(WORKSPACE_ATTRIBUTE, workspace)]),
                memo={POLICY_MEMO: WorkspacePolicy()},
                static_summary=f"rules of {workspace}"[:200],
            )


AgentLike = AgentHandle | AgentVersion | AgentId | str


class PolicyRegistry:
    """Reads and changes the rules that hold for all sessions of a workspace, also for those that run."""

    owner: Owner
    _policies: PolicyStore

    async def get_policy(self, *, owner: Owner | None = None) -> WorkspacePolicy:
        """The workspace's rules. Needs no worker."""
        return await self._policies.get((owner or self.owner).workspace)

    async def set_policy(
        self, policy: PermissionPolicy, *, version: int | None = None, owner: Owner | None = None
    ) -> WorkspacePolicy:
        """Put another policy in place of the one for all sessions. Running sessions follow within two seconds.

        Args:
            policy: What holds from now on; what was allowed for single agents stays.
            version: The version that the caller has seen; if there is a newer one, nothing changes.
            owner: Whose workspace; by default the runtime's.

        Raises:
            ConflictError: Somebody else has changed it.
            InvalidRequestError: There are too many rules.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._change(PolicyChange(policy=policy, version=version), owner)

    async def add_rule(
        self,
        rule: Rule | str,
        permission: Permission = "allow",
        *,
        agent: AgentLike | None = None,
        owner: Owner | None = None,
    ) -> WorkspacePolicy:
        """Add a rule, such as ``bash(git *)``; one of the same text is replaced.

        Args:
            rule: The rule, or its text.
            permission: What a text says.
            agent: For the sessions of this agent only.
            owner: Whose workspace; by default the runtime's.

        Raises:
            InvalidRequestError: It is no rule, or there are too many.
            WorkerUnavailableError: No worker took it in time.
        """
        added = rule if isinstance(rule, Rule) else read(rule, permission)
        return await self._change(PolicyChange(add=(added,), agent_id=_agent_id(agent)), owner)

    async def remove_rule(
        self, rule: Rule | str, *, agent: AgentLike | None = None, owner: Owner | None = None
    ) -> WorkspacePolicy:
        """Remove a rule by its text. One that is not there is none the less gone.

        Raises:
            WorkerUnavailableError: No worker took it in time.
        """
        text = rule.rule if isinstance(rule, Rule) else rule
        return await self._change(PolicyChange(remove=(text,), agent_id=_agent_id(agent)), owner)

    async def _change(self, change: PolicyChange, owner: Owner | None) -> WorkspacePolicy:
        return await self._policies.change((owner or self.owner).workspace, change)


def read(text: str, permission: Permission) -> Rule:
    """A rule from outside.

    Raises:
        InvalidRequestError: It is none.
    """
    try:
        return Rule(rule=text, permission=permission)
    except ValidationError as error:
        raise InvalidRequestError.from_validation(error) from None


def _agent_id(agent: AgentLike | None) -> AgentId | None:
    if agent is None:
        return None
    return AgentId(agent) if isinstance(agent, str) else agent.id
