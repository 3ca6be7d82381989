"""One migration for each schema version, the oldest first."""
