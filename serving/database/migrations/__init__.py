"""Alembic's scripts for the one database of identity and ledger: `versions` holds one file for each schema.

To add one: change the tables, then
`alembic -c serving/database/migrations/alembic.ini revision --autogenerate -m "what changes"`,
look it over, and raise `SCHEMA_VERSION`. A test compares the result of all migrations with the tables.
"""
