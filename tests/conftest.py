"""One thread a process: results do not depend on it, and spinning threads on a busy core take many times as long."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
