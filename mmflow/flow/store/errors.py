"""Errors of a run store, each with a message that says what happened, where, and how to go on."""


class StoreError(Exception):
    """Something could not be stored or read; the message says what happened, where, and how to go on."""


class NotStored(StoreError, KeyError):
    """There is no entry under this key."""

    def __str__(self) -> str:
        return str(self.args[0])


class DamagedEntry(NotStored):
    """An entry differs from the published one; it was set aside, so that a new run makes it again."""
