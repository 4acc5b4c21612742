"""The program's log: its setup, and handlers that survive a full disk or a closed pipe.

Nothing else of hubbackup loads structlog. structlog's own renderer for terminals loads rich wherever that is
installed, for tracebacks that none of these logs has: 4 MB of memory, and a tenth of the program's start.
"""

import sys

_hidden = "rich" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402, F401

if _hidden:
    del sys.modules["rich"]
