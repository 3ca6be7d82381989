"""Everything between a client and a model: the gateway, its guard and marks, the engine it fronts, tenants, the ledger.

In come requests in OpenAI's shape, settings and verified checkpoints; out go cleaned, marked, recorded answers. The rest
of the house is reached only through leaves: the model registry and telemetry.
"""
