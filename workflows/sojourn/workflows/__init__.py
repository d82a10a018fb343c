"""Deterministic code: the session and the agent as Temporal workflows."""

from sojourn.workflows.agent import AgentWorkflow
from sojourn.workflows.session import SessionWorkflow

__all__ = ["AgentWorkflow", "SessionWorkflow"]
