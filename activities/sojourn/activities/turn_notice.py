"""The activity `notify_turn`: hooks are told that a turn has ended."""

from temporalio import activity
from temporalio.exceptions import ApplicationError

from sojourn.activities.hook import HookContext, TurnComplete
from sojourn.activities.hook_chain import SessionHooks
from sojourn.activities.model import ModelCallError
from sojourn.types.name import NOTIFY_TURN_ACTIVITY
from sojourn.types.record import NotifyTurnInput


class TurnNotice:
    """Holds what the activity needs on a worker."""

    def __init__(self, hooks: SessionHooks) -> None:
        self._hooks = hooks

    @activity.defn(name=NOTIFY_TURN_ACTIVITY)
    async def notify_turn(self, turn: NotifyTurnInput) -> None:
        """Run the hooks for the end of a turn; one that fails is passed over, and the worker's log says so.

        Attempted again after a lost worker: a hook may be told twice of one turn.

        Raises:
            ApplicationError: The worker lacks a hook; another one may have it.
        """
        context = HookContext(session_id=turn.session_id, agent_id=turn.agent_id, owner=turn.owner)
        try:
            chain = self._hooks.chain(context, turn.hooks)
        except ModelCallError as error:
            raise ApplicationError(error.failure.message) from None
        event = TurnComplete(**vars(context), stop_reason=turn.stop_reason, turn=turn.turn, steps=turn.steps)
        await chain.on_turn_complete(event)
