"""The rules of a workspace as a worker reads them: seldom asked for, never forgotten."""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from pydantic import ValidationError
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.activities.model import ModelCallError
from sojourn.types.chain import described_run
from sojourn.types.described import memo
from sojourn.types.failure import ModelFailure
from sojourn.types.id import policy_workflow_id
from sojourn.types.name import POLICY_MEMO, POLICY_WORKFLOW
from sojourn.types.policy import WorkspacePolicy

logger = logging.getLogger("sojourn.activities")

FRESH = timedelta(seconds=2)
"""How long what was read counts as current: a change holds everywhere after that."""

_AT_ONCE = timedelta(seconds=3)
_CAPACITY = 10_000


@dataclass
class _Known:
    policy: WorkspacePolicy
    read_at: float


class WorkspacePolicies:
    """Reads the rules of workspaces from the server. When it is away, the rules read last go on to hold."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, workspace: str, *, changed: bool = False) -> WorkspacePolicy:
        """The rules of a workspace, at most two seconds old where the server can be reached.

        Args:
            workspace: Whose.
            changed: It is known that they have just changed.

        Raises:
            ModelCallError: Retryable; they have never been read, and the server is away.
        """
        if not changed and (known := self._current(workspace)) is not None:
            return known.policy
        # One question for all steps that want to know at the same time.
        async with self._locks.setdefault(workspace, asyncio.Lock()):
            if changed or (known := self._current(workspace)) is None:
                known = await self._read_again(workspace)
        self._locks.pop(workspace, None)
        return known.policy

    def _current(self, workspace: str) -> _Known | None:
        known = self._known.get(workspace)
        now = asyncio.get_running_loop().time()
        return known if known is not None and now - known.read_at < FRESH.total_seconds() else None

    async def _read_again(self, workspace: str) -> _Known:
        last = self._known.get(workspace)
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_AT_ONCE.total_seconds()):
                policy = await self._read(workspace)
        except (RPCError, TimeoutError, ValidationError) as error:
            if last is None:
                text = f"the rules of workspace {workspace!r} cannot be read: {str(error) or 'no answer'}"
                raise ModelCallError(ModelFailure(kind="retryable", message=text[:300])) from None
            logger.warning("the rules of workspace %s cannot be read; those known last hold", workspace)
            policy = None
        # They are never deleted: one that is not found is lost, and what it said still holds.
        known = _Known(policy if policy is not None else last.policy if last else WorkspacePolicy(), asked_at)
        self._known[workspace] = known
        self._known.move_to_end(workspace)
        if len(self._known) > _CAPACITY:
            self._known.popitem(last=False)
        return known

    async def _read(self, workspace: str) -> WorkspacePolicy | None:
        info = await described_run(self._client, policy_workflow_id(workspace))
        if info is None or info.type.name != POLICY_WORKFLOW:
            return None
        return await memo(self._client, info, POLICY_MEMO, WorkspacePolicy)
