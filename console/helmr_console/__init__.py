"""The operator console: a Textual app over `helmr.client`.

Pure modules first (views, filters, forms, drafts, actions, freshness: no Textual), then `safe` (the only way
from session text to the screen), `widgets/`, `screens/` and `app`. The console talks to the gateway only and
writes only with a `Permit`: an answer reaches exactly the wait that the operator looked at, session text never
controls the terminal, and the age of the data is always on screen.
"""

from __future__ import annotations

from helmr_console.feature import use
from helmr_console.features import FEATURES

use(FEATURES)
