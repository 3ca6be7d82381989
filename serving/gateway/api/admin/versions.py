"""ETags: which version of a tenant or key an administrator has seen (RFC 9110, section 13.1.1)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Response

from serving.gateway.errors import BadRequest

IfMatch = Annotated[
    str | None,
    Header(description="The ETag of the version that is to be changed; another is refused with 412. Default: any."),
]
_ETAG = re.compile(r'"([1-9][0-9]{0,17})"')


def expected_version(if_match: str | None) -> int | None:
    """The version that the request expects; None: any.

    Raises:
        BadRequest: this is no ETag of ours.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise BadRequest('If-Match must be an ETag as it was answered, such as "3".', param="If-Match")
    return int(match[1])


def set_etag(response: Response, version: int) -> None:
    response.headers["etag"] = f'"{version}"'
