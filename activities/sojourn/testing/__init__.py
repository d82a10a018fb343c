"""Fakes we ship: models that answer from a script. And the rules that every log keeps."""

from sojourn.testing.rule import log_faults
from sojourn.testing.scripted import (
    Script,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    ScriptedTurn,
    last_text,
)

__all__ = ["Script", "ScriptedCall", "ScriptedFailure", "ScriptedModel", "ScriptedTurn", "last_text", "log_faults"]
