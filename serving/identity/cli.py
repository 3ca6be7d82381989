"""`signet keys`."""

from serving.identity.commands.keys import keys

__all__ = ["keys"]
