"""Which of a request's fields go on to an engine: the endpoint's own, in their types, and what an operator adds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import quote

from serving.gateway.errors import BadRequest
from serving.gateway.fields.kinds import OBJECT
from serving.gateway.fields.lists import BESIDE_TEMPLATE, FIELDS, NEVER_ADDED, REFUSED, TEMPLATE_FIELDS
from serving.gateway.fields.media import MediaHosts
from serving.gateway.fields.usual import is_usual

_ARGUMENTS = "vllm_xargs"
_MAX_NAMED = 32


class FieldRules:
    """What holds for bodies, ready to be applied to one.

    Args:
        added: names of further fields that go on.
        unknown: what becomes of a field that is neither the endpoint's nor among them.
        media_hosts: where media may be loaded from.
    """

    def __init__(
        self, *, added: Iterable[str], unknown: Literal["ignore", "refuse", "pass"], media_hosts: Iterable[str]
    ) -> None:
        added = frozenset(added)
        self._unknown = unknown
        self._added = added - NEVER_ADDED
        self._arguments = frozenset(
            name.removeprefix(f"{_ARGUMENTS}.") for name in added if name.startswith(f"{_ARGUMENTS}.")
        )
        self._media = MediaHosts(media_hosts)

    def apply(self, body: dict[str, Any], path: str, beside_template: bool) -> tuple[str, ...]:
        """Leave in `body` what may go on, and return the names of what does not.

        Nulls ask for nothing and are left out too, unnamed.

        Raises:
            BadRequest: a value of another type, a field that is refused, or media from elsewhere.
        """
        if not beside_template and is_usual(body, path):
            return ()
        known = FIELDS[path]
        others: list[str] = []
        for name, value in body.items():
            kind = known.get(name)
            if kind is None or value is None:
                others.append(name)
            elif not kind.fits(value):
                raise BadRequest(f"'{name}' must be {kind.words}.", param=name)
        ignored = self._leave_out(body, others, beside_template) if others else ()
        if beside_template:
            _refuse_beside_template(body)
        if _ARGUMENTS in body:
            self._check_arguments(body)
        self._media.check(body)
        return ignored

    def _leave_out(self, body: dict[str, Any], names: list[str], beside_template: bool) -> tuple[str, ...]:
        ignored = []
        for name in names:
            if body[name] is None:
                del body[name]
            elif (beside_template and name in TEMPLATE_FIELDS) or name in self._added:
                continue
            elif name in REFUSED:
                if body[name] is not False and body[name] != 0:
                    raise _refused(name, REFUSED[name])
                del body[name]
            elif self._unknown == "refuse":
                message = f"'{name[:100]}' is no field of this endpoint. Leave it out."
                raise BadRequest(message, code="unknown_field", param=name[:100])
            elif self._unknown == "ignore":
                del body[name]
                ignored.append(name)
        return tuple(ignored)

    def _check_arguments(self, body: dict[str, Any]) -> None:
        """Only arguments that an operator names reach other plugins of an engine."""
        if not OBJECT.fits(body[_ARGUMENTS]):
            raise BadRequest(f"'{_ARGUMENTS}' must be {OBJECT.words}.", param=_ARGUMENTS)
        for name in body[_ARGUMENTS]:
            if name not in self._arguments or name.startswith("signet_"):
                shown = f"{_ARGUMENTS}.{name[:100]}"
                raise _refused(shown, "it is not among those that clients may set here")
        if not body[_ARGUMENTS]:
            del body[_ARGUMENTS]


def ignored_header(names: tuple[str, ...]) -> bytes:
    """Value of `X-Signet-Ignored-Fields`: names separated by commas, odd characters in them percent-encoded."""
    shown = [quote(name[:64], safe="[]") for name in names[:_MAX_NAMED]]
    return ", ".join(shown + ["..."] * (len(names) > _MAX_NAMED)).encode()


def _refuse_beside_template(body: dict[str, Any]) -> None:
    for name, what in BESIDE_TEMPLATE.items():
        value = body.get(name)
        if value is not None and value is not False and value != "disabled":
            raise _refused(name, f"beside a prompt template it could {what}")


def _refused(name: str, why: str) -> BadRequest:
    return BadRequest(f"'{name}' cannot be set by a request: {why}.", param=name, code="field_refused")
