"""The HTTP/1.1 server of the gateway: one asyncio protocol on httptools that calls an ASGI application.

`server.Server` starts, drains and stops; `connection.Connection` reads requests and keeps to the limits;
`request.Request` is what the application sees of one. Why not a general server: docs/decisions/009.
"""
