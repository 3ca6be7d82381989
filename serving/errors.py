"""What programs say of a user's mistake; apart from the settings, so that `signet --help` need not read those."""


class SettingsError(ValueError):
    """A setting is unknown or out of range; `str()` is one line that says which and what to do."""
