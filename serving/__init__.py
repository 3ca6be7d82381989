"""Everything between a client and a model: gateway, guard, marks, engine, tenants, ledger.

In come requests in OpenAI's shape, settings and verified checkpoints; out go cleaned, marked, recorded answers. The
rest of the house is reached only through leaves: the model registry and telemetry.
"""

DEFAULT_MODEL = "smollm2-135m-instruct"
"""Served, tuned and read with where no model is named; the engine fetches it on first use."""

VERSION = "0.1.0"
"""Signet's version; packaging and every program read it here, the chart repeats it."""
