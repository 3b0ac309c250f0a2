"""The command line. Imports nothing heavy until a command needs it."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command `mmflow`."""
    from mmflow.cli.app import app

    app()
