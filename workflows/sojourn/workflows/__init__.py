"""Deterministic code: the session and the agent as Temporal workflows."""

from sojourn.workflows.agent import AgentWorkflow, VersionedAgentWorkflow
from sojourn.workflows.export import ExportWorkflow
from sojourn.workflows.session import SessionWorkflow

__all__ = ["AgentWorkflow", "ExportWorkflow", "SessionWorkflow", "VersionedAgentWorkflow"]
