"""The status machine of a session (design.md §4). Plain data, no Temporal."""

from sojourn.types.session import SessionStatus as S

_MOVES: dict[S, frozenset[S]] = {
    S.QUEUED: frozenset({S.RUNNING, S.IDLE}),
    S.RUNNING: frozenset({S.RUNNING, S.IDLE, S.RESCHEDULING, S.PAUSED}),
    S.IDLE: frozenset({S.IDLE, S.RUNNING, S.PAUSED}),
    S.RESCHEDULING: frozenset({S.RUNNING, S.IDLE}),
    S.PAUSED: frozenset({S.RUNNING, S.IDLE}),
}
_FINAL = frozenset({S.COMPLETED, S.FAILED, S.ARCHIVED})


def may_move(source: S, target: S) -> bool:
    """Whether the machine has this move. Nothing leaves a final status; every live one may end."""
    if source.is_terminal:
        return False
    return target in _FINAL or target in _MOVES[source]


def refusal(source: S, target: S) -> str:
    """One line that says why a move is refused and what may be done instead."""
    if source.is_terminal:
        return f"session is {source.value}; start a new one"
    legal = ", ".join(sorted(status.value for status in _MOVES[source]))
    return f"session is {source.value} and cannot become {target.value}; from here it can become {legal}"
