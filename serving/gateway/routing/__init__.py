"""Which model and which engine answer a request.

In come the request's model name, prompt and session, and the pool; out goes one engine, by one readable score.
"""
