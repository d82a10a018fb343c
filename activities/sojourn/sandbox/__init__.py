"""Where agents' commands run: sandboxes, the guest inside them, and the way out of them."""

from sojourn.sandbox.bubblewrap import BubblewrapSandbox
from sojourn.sandbox.choice import SandboxChoice, SandboxName, choose_sandbox
from sojourn.sandbox.docker import DockerSandbox
from sojourn.sandbox.local import LocalSandbox
from sojourn.sandbox.protocol import Mount, Sandbox, SandboxLimits, SandboxProcess, SandboxSpec

__all__ = [
    "BubblewrapSandbox",
    "DockerSandbox",
    "LocalSandbox",
    "Mount",
    "Sandbox",
    "SandboxChoice",
    "SandboxLimits",
    "SandboxName",
    "SandboxProcess",
    "SandboxSpec",
    "choose_sandbox",
]
