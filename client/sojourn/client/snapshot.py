"""The agents that sessions run: each run of a session keeps one, so what was read once holds."""

from collections import OrderedDict

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.types.agent import AgentVersion
from sojourn.types.chain import run_start

_MOST_RUNS = 1000


class RunningAgents:
    """Reads the agent of a run from the run's beginning, once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: OrderedDict[str, AgentVersion] = OrderedDict()

    async def of(self, workflow_id: str, run_id: str) -> AgentVersion:
        """The agent that the run was started with.

        Raises:
            CheckpointError: The server has forgotten the run, and it is not in the archive.
            RPCError: As the server says; ``NOT_FOUND`` when there is no such session.
            StoreUnavailableError: The run must be in the archive, which cannot be reached.
        """
        agent = self._found.get(run_id)
        if agent is None:
            run = await run_start(self._client, workflow_id, run_id)
            if run.start is None:
                raise RPCError("the run has no beginning", RPCStatusCode.NOT_FOUND, b"")
            agent = run.start.agent
        self._found[run_id] = agent
        self._found.move_to_end(run_id)
        if len(self._found) > _MOST_RUNS:
            self._found.popitem(last=False)
        return agent
