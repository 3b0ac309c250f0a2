"""The command line. Imports nothing heavy until a command needs it."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command `mmflow`."""
    from mmflow.cli.app import app
    from mmflow.cli.streams import without_secrets

    with without_secrets():
        app()
