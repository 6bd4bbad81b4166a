"""Deciding: (state, command, now) → the entries it makes and the receipt.

Nothing here waits, reads a clock or changes the state. A decision that is refused raises the `HelmrError` that
the caller gets; one that is refused *and* leaves entries (an answer after its deadline times the wait out)
returns the error in `Decided.error`.
"""

from helmr_runtime.core.decide.commands import decide
from helmr_runtime.core.drafts import Decided, DecisionContext, TaskPolicy

__all__ = ["Decided", "DecisionContext", "TaskPolicy", "decide"]
