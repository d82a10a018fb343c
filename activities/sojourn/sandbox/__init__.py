"""Where agents' commands run: sandboxes, the guest inside them, and the way out of them."""

from sojourn.sandbox.protocol import Mount, Sandbox, SandboxLimits, SandboxProcess, SandboxSpec

__all__ = ["Mount", "Sandbox", "SandboxLimits", "SandboxProcess", "SandboxSpec"]
