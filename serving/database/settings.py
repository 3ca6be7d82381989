"""Settings of the database that identity and ledger share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Migrate = Literal["start", "never"]


class DatabaseSettings(BaseModel):
    """Where tenants, keys and the ledger are kept."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    url: SecretStr | None = None
    """SQLAlchemy URL, as `postgresql+psycopg://user:password@host/signet`; unset: SIGNET_HOME/signet.db."""

    migrate: Migrate = "start"
    """`start`: whatever opens the database first upgrades its tables. `never`: only `signet ledger upgrade` does; a
    gateway waits for it."""

    read_url: SecretStr | None = None
    """A replica of a PostgreSQL database, for reports of usage and exports; unset: `url`."""

    read_timeout_s: float = Field(default=5.0, gt=0)
    """How long a question of the admin API, or what was spent of a budget, may take the database."""

    def resolve(self, home: Path) -> str:
        """The URL to open."""
        return self.url.get_secret_value() if self.url else f"sqlite:///{home / 'signet.db'}"

    def resolve_reads(self, home: Path) -> str:
        """The URL to open for reports."""
        return self.read_url.get_secret_value() if self.read_url else self.resolve(home)
