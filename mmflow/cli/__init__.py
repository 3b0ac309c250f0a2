"""The command line. Imports nothing heavy until a command needs it."""

from __future__ import annotations

import os

THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}
"""How threads of PyTorch and NumPy wait, where the user has not said it: spinning ones starve a busy machine."""


def main() -> None:
    """Entry point of the command `mmflow`."""
    import signal

    # Read when the libraries are loaded, here and in loader workers; before that nothing is lost by setting them.
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)

    try:
        from mmflow.cli.app import app
        from mmflow.cli.streams import without_secrets

        with without_secrets():
            app()
    except KeyboardInterrupt:
        # Before a command has begun: inside, `reported` tells of it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(2, b"interrupted\n")
        raise SystemExit(130) from None
    finally:
        # All is saved and said: a second Ctrl-C must not turn the end of the process into a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
