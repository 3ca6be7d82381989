"""HTTP/1.1: a server that calls an ASGI application, a client with a pool of connections, and server-sent events.

A leaf: it knows connections and bytes, and nothing of what is asked or answered. `server.Server` starts, drains and
stops. A `connection.Connection` has a `reader.RequestReader`, which parses and keeps to the limits, an
`answering.RequestQueue`, which has each `request.Request` answered in order, and a `flow.FlowControl` between them and
the socket. Why not a general server: docs/decisions/009.
"""
