"""The public surface, frozen: what is in these lists stays importable, and nothing joins them by accident."""

from importlib import import_module

import pytest

EXPORTS = {
    "sojourn.activities": [
        "Tool",
        "ToolCancelledError",
        "ToolContext",
        "Toolbox",
        "tool",
    ],
    "sojourn.client": [
        "AgentHandle",
        "AgentRuntime",
        "Page",
        "SessionHandle",
        "connect_client",
        "missing_search_attributes",
        "name_store",
        "register_search_attributes",
    ],
    "sojourn.testing": [
        "Script",
        "ScriptedCall",
        "ScriptedFailure",
        "ScriptedModel",
        "ScriptedTurn",
        "last_text",
        "log_faults",
    ],
    "sojourn.types": [
        "ActionRequiredError",
        "AgentArchivedError",
        "AgentCustomToolUse",
        "AgentDefinition",
        "AgentId",
        "AgentInfo",
        "AgentMcpToolResult",
        "AgentMcpToolUse",
        "AgentMessage",
        "AgentNotFoundError",
        "AgentState",
        "AgentThinking",
        "AgentToolResult",
        "AgentToolUse",
        "AgentToolset",
        "AgentVersion",
        "Base64Source",
        "CheckpointError",
        "Citations",
        "Compaction",
        "ConflictError",
        "ContentBlock",
        "ContentDelta",
        "ContextCompacted",
        "CustomTool",
        "DocumentBlock",
        "EndTurn",
        "EnvironmentConfig",
        "ErrorDetail",
        "Event",
        "EventDelta",
        "EventId",
        "EventStart",
        "FileSource",
        "FunctionTool",
        "ImageBlock",
        "InternalError",
        "InvalidRequestError",
        "JsonSchema",
        "Limits",
        "MaxTokens",
        "McpServer",
        "McpToolset",
        "MessageBlock",
        "Metadata",
        "ModelNotFoundError",
        "ModelRef",
        "ModelRequestEnd",
        "ModelRequestStart",
        "ModelSettings",
        "NotFoundError",
        "Owner",
        "PayloadTooLargeError",
        "PendingAction",
        "Permission",
        "PermissionPolicy",
        "PlainTextSource",
        "Preview",
        "PreviewedEvent",
        "Provider",
        "ProviderError",
        "Refusal",
        "RequiresAction",
        "RetriesExhausted",
        "RetryStatus",
        "RollOver",
        "SandboxError",
        "SearchResultBlock",
        "ServerNotReadyError",
        "ServerUnavailableError",
        "SessionBusyError",
        "SessionClosedError",
        "SessionErrorEvent",
        "SessionEvent",
        "SessionExistsError",
        "SessionId",
        "SessionIdle",
        "SessionInfo",
        "SessionNotFoundError",
        "SessionPaused",
        "SessionRescheduled",
        "SessionResumed",
        "SessionRunning",
        "SessionStateError",
        "SessionStatus",
        "SessionTerminated",
        "SessionUpdated",
        "SessionUsage",
        "Skill",
        "SojournError",
        "Store",
        "StoreMissingError",
        "StoreUnavailableError",
        "StatusReport",
        "StopReason",
        "SystemMessage",
        "TextBlock",
        "ToolCallNotFoundError",
        "ToolCallSettledError",
        "ToolConfig",
        "ToolNotFoundError",
        "ToolOptions",
        "ToolOutcome",
        "ToolProgress",
        "ToolTimeoutError",
        "TurnInterruptedError",
        "UnknownEvent",
        "UpdateSessionInput",
        "UrlSource",
        "Usage",
        "UserCustomToolResult",
        "UserDefineOutcome",
        "UserEvent",
        "UserInterrupt",
        "UserMessage",
        "UserToolConfirmation",
        "UserToolResult",
        "VersionConflictError",
        "Wire",
        "WorkerUnavailableError",
        "data_converter",
        "new_event_id",
        "new_session_id",
        "parse",
        "read_event",
        "text_of",
    ],
    "sojourn.worker": [
        "EmbeddedServer",
        "SojournWorker",
        "ToolSource",
        "Versioning",
        "WorkerOptions",
        "default_build_id",
        "deployment_config",
        "embedded_server",
        "temporal_binary",
    ],
}

each_package = pytest.mark.parametrize("package", sorted(EXPORTS))


@each_package
def test_exports_are_frozen(package: str) -> None:
    exported, frozen = set(import_module(package).__all__), set(EXPORTS[package])
    added, removed = sorted(exported - frozen), sorted(frozen - exported)

    assert exported == frozen, (
        f"{package}.__all__ has changed (added {added}, removed {removed}). If that is meant: update EXPORTS in "
        f"tests/test_exports.py and tell users in CHANGELOG.md; a removal breaks them"
    )


@each_package
def test_exports_are_sorted_and_unique(package: str) -> None:
    exported = import_module(package).__all__

    assert exported == sorted(set(exported))


@each_package
def test_exports_can_be_imported(package: str) -> None:
    module = import_module(package)

    assert [name for name in module.__all__ if not hasattr(module, name)] == []
