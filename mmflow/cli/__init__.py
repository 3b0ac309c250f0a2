"""The command line. Imports nothing heavy until a command needs it."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command `mmflow`."""
    import signal

    from mmflow.cli.app import app
    from mmflow.cli.streams import without_secrets

    try:
        with without_secrets():
            app()
    finally:
        # All is saved and said: a second Ctrl-C must not turn the end of the process into a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
