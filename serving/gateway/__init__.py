"""The HTTP edge: what a client's bytes meet between the socket and the engine.

`pipeline` reads top to bottom as one request: authenticate, admit, sanitize, mark, route, relay, settle. Requests come
in over ASGI (`app`); what goes out is the engine's answer, cleaned, or OpenAI-shaped JSON saying what is wrong
(`errors`). Nothing here imports torch or vllm, and nothing on the hot path touches a disk or a lock.
"""
