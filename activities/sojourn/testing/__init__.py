"""Fakes we ship: models that answer from a script."""

from sojourn.testing.scripted import (
    Script,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    ScriptedTurn,
    last_text,
)

__all__ = ["Script", "ScriptedCall", "ScriptedFailure", "ScriptedModel", "ScriptedTurn", "last_text"]
