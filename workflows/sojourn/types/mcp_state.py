"""What a session remembers of its MCP servers between runs. Apart, because events know sessions."""

from sojourn.types.wire import Wire


class McpState(Wire):
    """Which servers have been asked for their tools, as carried by continue-as-new."""

    listed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Of those, the ones that offer other tools by now."""
