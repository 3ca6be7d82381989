"""The request's body for the other endpoints: read, and checked as far as the gateway must understand it."""

from __future__ import annotations

from serving.gateway.body import decode_object, model_of, stream_of
from serving.gateway.context import RequestContext
from serving.gateway.dialects.dialect import Dialect
from serving.gateway.settings import GatewaySettings


def read_question(context: RequestContext, dialect: Dialect, settings: GatewaySettings) -> None:
    """Fill in body, model and stream.

    Raises:
        BadRequest: not a JSON object, or a field that cannot be used.
    """
    body = decode_object(context.raw_body)
    context.model = context.asked_model = model_of(body)
    context.stream = dialect.streams and stream_of(body)
    dialect.check(body, settings)
    context.body = body
