"""The two moments of a request that make its receipt: the question as it came, and the end of its answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest
from serving.gateway.settings import ReceiptSettings
from serving.http.asgi import Headers
from serving.provenance.receipts import (
    AnswerClaims,
    AnswerDigests,
    ReceiptIssuer,
    ReceiptKeys,
    ReceiptKeysError,
)

# Engines that list no models take any name: a receipt must fit its column.
MAX_NAME_CHARS = 255
MAX_EARLIER = 8
log = logging.getLogger(__name__)


def open_receipts(settings: ReceiptSettings, keys_file: Path) -> ReceiptIssuer | None:
    """Who makes receipts, by the settings; None: nobody.

    Raises:
        ReceiptKeysError: the keys cannot be used, and the settings do not say to go on without.
    """
    if not settings.enabled:
        return None
    try:
        keys = ReceiptKeys.open(keys_file, create=True)
        return ReceiptIssuer(keys, settings.issuer, settings.deliver_to)
    except ReceiptKeysError as error:
        if settings.when_unusable == "refuse":
            raise ReceiptKeysError(f"{error} (receipts.when_unusable: run starts without receipts)") from None
        log.error("no receipts are signed", extra={"reason": str(error)})
        return None


def begin_receipt(context: RequestContext, issuer: ReceiptIssuer, body: Mapping[str, Any]) -> None:
    """Hash the question as the client sent it, before anything is put in or cleaned, and make ready for the answer.

    Raises:
        BadRequest: `X-Signet-Receipt` does not say whether the receipt is to come with the answer.
    """
    wanted = context.headers.get(b"x-signet-receipt", b"").strip().lower()
    if wanted not in (b"", b"on", b"off"):
        raise BadRequest(
            "X-Signet-Receipt must be 'on' or 'off'.", code="unknown_receipt_choice", param="X-Signet-Receipt"
        )
    if context.endpoint.generates:
        assert context.principal is not None
        context.answer.digests = AnswerDigests(body)
        context.answer.delivers_receipt = (
            wanted == b"on" if wanted else issuer.delivers(context.principal.tenant, context.principal.key_id)
        )


def record_receipt(context: RequestContext, issuer: ReceiptIssuer) -> None:
    """State what is known of a complete answer; one that no engine gave is the policy's own words."""
    if context.answer.digests is None:
        return
    assert context.principal is not None
    engine = context.answer.engine
    manifest = engine.manifests.get(context.question.model, "") if engine is not None else ""
    earlier = list(dict.fromkeys(context.answer.earlier_manifests))[:MAX_EARLIER]
    answer = AnswerClaims(
        endpoint=context.endpoint.name,
        model=context.question.model[:MAX_NAME_CHARS],
        policy=context.policy_digest,
        mark=context.mark.scheme if engine is not None else "off",
        prompt_tokens=context.answer.prompt_tokens,
        completion_tokens=context.answer.completion_tokens,
        finish_reason=context.answer.finish_reason[:MAX_NAME_CHARS],
        mark_key=context.mark.key_id if engine is not None else "",
        manifest=manifest,
        continued=context.answer.continued,
        earlier_manifests=earlier if any(digest != manifest for digest in earlier) else [],
    )
    context.answer.receipt = issuer.record(context.request_id, context.principal.tenant, answer, context.answer.digests)


def receipt_header(context: RequestContext) -> Headers:
    """For an answer in one piece whose record is durable."""
    receipt = _delivered(context)
    return () if receipt is None else ((b"x-signet-receipt", receipt),)


def receipt_comment(context: RequestContext) -> list[bytes]:
    """The same for a stream: a comment, which clients of server-sent events pass over."""
    receipt = _delivered(context)
    return [] if receipt is None else [b": signet-receipt " + receipt]


def _delivered(context: RequestContext) -> bytes | None:
    """None: whoever wants it fetches it, which is when it is signed."""
    answer = context.answer
    if answer.receipt is None or not answer.delivers_receipt:
        return None
    return answer.receipt.sign().opened.encode()
