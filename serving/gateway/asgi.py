"""What the gateway reads and sends beside the steps of a request: bodies within its limit, and its typed errors."""

from __future__ import annotations

from serving.gateway.errors import GatewayError, TooLarge
from serving.http.asgi import JSON, Headers, Receive, Send, send_whole
from serving.http.asgi import read_body as read
from serving.http.errors import HttpError


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole request body.

    Raises:
        TooLarge: more than `max_bytes`; the rest is not read.
        ClientGone: the client left while sending.
    """
    try:
        return await read(receive, max_bytes)
    except HttpError as error:
        raise TooLarge(error.message) from None


async def send_error(send: Send, error: GatewayError, headers: Headers = (), body: bytes | None = None) -> None:
    """A typed error, as OpenAI-shaped JSON or as another `body`."""
    body = error.body() if body is None else body
    await send_whole(send, error.http_status, body, [JSON, *error.headers, *headers])
