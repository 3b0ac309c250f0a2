"""One thread a process: results do not depend on it, and spinning threads on a busy core take many times as long.

Property tests draw the same examples every time: what passed once passes again.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("mmflow", derandomize=True, deadline=None)
settings.load_profile("mmflow")
