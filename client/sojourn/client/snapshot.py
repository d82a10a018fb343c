"""What runs of sessions began with: their agents and resources. A run keeps it, so what was read once holds."""

from collections import OrderedDict
from dataclasses import dataclass

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.types.agent import AgentVersion
from sojourn.types.chain import run_start
from sojourn.types.id import VaultId
from sojourn.types.resource import Resource

_MOST_RUNS = 1000


@dataclass(frozen=True)
class Running:
    """What a run was started with."""

    agent: AgentVersion
    vault_ids: tuple[VaultId, ...]
    resources: tuple[Resource, ...]


class RunningAgents:
    """Reads the agent of a run from the run's beginning, once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: OrderedDict[str, Running] = OrderedDict()

    async def of(self, workflow_id: str, run_id: str) -> Running:
        """What the run was started with.

        Raises:
            CheckpointError: The server has forgotten the run, and it is not in the archive.
            RPCError: As the server says; ``NOT_FOUND`` when there is no such session.
            StoreUnavailableError: The run must be in the archive, which cannot be reached.
        """
        found = self._found.get(run_id)
        if found is None:
            run = await run_start(self._client, workflow_id, run_id)
            if run.start is None:
                raise RPCError("the run has no beginning", RPCStatusCode.NOT_FOUND, b"")
            found = Running(run.start.agent, run.start.vault_ids, run.start.resources)
        self._found[run_id] = found
        self._found.move_to_end(run_id)
        if len(self._found) > _MOST_RUNS:
            self._found.popitem(last=False)
        return found
