"""Whether a conversation still fits its model's window."""

from sojourn.activities.catalogue import Catalogue
from sojourn.activities.conversation import AssistantTurn, Conversation
from sojourn.activities.cut import LEAST_GAIN, cut
from sojourn.activities.estimate import load, total
from sojourn.activities.model import ModelCallError
from sojourn.types.failure import ModelFailure
from sojourn.types.record import CallModelResult
from sojourn.types.session import SessionInput


class Gauge:
    """Tells when a compaction is due. Windows are in tokens."""

    def __init__(self, tools: Catalogue) -> None:
        self._tools = tools

    def check_room(self, start: SessionInput, conversation: Conversation, window: int) -> None:
        """Refuse a step that cannot fit, such as after a huge tool result, before the provider does.

        Some servers do not refuse it but silently drop its beginning. A conversation that nobody has counted yet, or
        that cannot be made shorter, is left to the provider: a guess may be wrong, and must not end a session.

        Raises:
            ModelCallError: Too long.
        """
        definition = start.agent.definition
        if not definition.compaction.enabled or not conversation.used_tokens:
            return
        needed = total(conversation)
        if needed > window and self._can_shrink(start, conversation, window, least=0.0):
            text = f"the conversation has about {needed:,} tokens and the model's window {window:,}"
            failure = ModelFailure(kind="fatal", too_long=True, message=text, provider=definition.model.provider)
            raise ModelCallError(failure)

    def is_full(self, start: SessionInput, conversation: Conversation, result: CallModelResult, window: int) -> bool:
        """Whether the answer fills so much of the window that the next step needs a compaction, and can have one."""
        settings, used = start.agent.definition.compaction, result.usage.total_tokens
        if not settings.enabled or used < settings.threshold * window:
            return False
        messages = [*conversation.messages, AssistantTurn(result.parts)]
        after = Conversation(messages, used_tokens=used, measured=len(messages), mcp_tools=conversation.mcp_tools)
        return self._can_shrink(start, after, window)

    def _can_shrink(
        self, start: SessionInput, conversation: Conversation, window: int, *, least: float = LEAST_GAIN
    ) -> bool:
        definition = start.agent.definition
        specs = self._tools.specs(start, conversation.mcp_tools)
        sizes = load(conversation, definition, specs).messages
        found = cut(conversation.messages, sizes, window=window, settings=definition.compaction, least=least)
        return found is not None
