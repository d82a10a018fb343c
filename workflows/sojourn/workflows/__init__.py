"""Deterministic code: sessions, and what they need to be, as Temporal workflows."""

from sojourn.workflows.agent import AgentWorkflow, VersionedAgentWorkflow
from sojourn.workflows.deployment_run import DeploymentRunWorkflow
from sojourn.workflows.environment import (
    EnvironmentWorkflow,
    NameWorkflow,
    VersionedEnvironmentWorkflow,
    VersionedNameWorkflow,
)
from sojourn.workflows.export import ExportWorkflow
from sojourn.workflows.key import KeyWorkflow, VersionedKeyWorkflow
from sojourn.workflows.policy import PolicyWorkflow, VersionedPolicyWorkflow
from sojourn.workflows.sandbox_check import CheckSandboxWorkflow
from sojourn.workflows.session import SessionWorkflow
from sojourn.workflows.vault import VaultWorkflow, VersionedVaultWorkflow
from sojourn.workflows.work import WorkWorkflow

ENTITIES = (AgentWorkflow, EnvironmentWorkflow, KeyWorkflow, NameWorkflow, PolicyWorkflow, VaultWorkflow)
"""What lives as long as it is wanted, for workers without a version."""

VERSIONED_ENTITIES = (
    VersionedAgentWorkflow,
    VersionedEnvironmentWorkflow,
    VersionedKeyWorkflow,
    VersionedNameWorkflow,
    VersionedVaultWorkflow,
    VersionedPolicyWorkflow,
)
"""The same for workers with a version, each of which takes them over from the one before."""

__all__ = [
    "ENTITIES",
    "VERSIONED_ENTITIES",
    "AgentWorkflow",
    "CheckSandboxWorkflow",
    "DeploymentRunWorkflow",
    "EnvironmentWorkflow",
    "ExportWorkflow",
    "KeyWorkflow",
    "NameWorkflow",
    "PolicyWorkflow",
    "SessionWorkflow",
    "VaultWorkflow",
    "VersionedAgentWorkflow",
    "VersionedEnvironmentWorkflow",
    "VersionedKeyWorkflow",
    "VersionedNameWorkflow",
    "VersionedPolicyWorkflow",
    "VersionedVaultWorkflow",
    "WorkWorkflow",
]
