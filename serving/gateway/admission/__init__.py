"""Whether and when a request may go to an engine.

In comes a request that its tenant's limits allow; out goes a permit, in fair order among tenants, or an early refusal.
"""
