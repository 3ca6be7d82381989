"""Postal codes: British, Canadian and Dutch ones by shape, plain digits after a state or a word that says so."""

from __future__ import annotations

from serving.guard.detector import Span
from serving.guard.detectors.boundary import LEFT, ascii_pattern

_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]"
    "|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
_CODE = ascii_pattern(
    rf"{LEFT}(?:[A-Z]{{1,2}}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{{2}}|[ABCEGHJ-NPRSTVXY]\d[A-Z][ -]?\d[A-Z]\d"
    r"|[1-9]\d{3} ?[A-Z]{2}|\d{5}-\d{4}|\d{4,6}|\d{5}-\d{3}|\d{3}-\d{4})(?![\w-])(?![.,]\d)"
)
_PLAIN = ascii_pattern(r"[\d-]+")
_CUE = ascii_pattern(
    rf"(?:\b(?:{_STATES}),? |(?i:\bzip(?:[ _-]?code)?|post(?:al)?[ _-]?code|postleitzahl|plz|code postal"
    r"|codigo postal|cap|cep|postnummer|postcode|pincode|pin code)(?:[\"'\s:=#.]|is){1,6})\Z"
)
_BEGUN = ascii_pattern(rf"{LEFT}[A-Z0-9]{{1,10}}(?:[ -][A-Z0-9]{{0,5}})?[.,-]?\Z")
_MAX_UNDECIDED = 20
_MAX_CUE = 32


class PostalCodes:
    """Off by default: towns and numbers stand in every letter."""

    entity = "POSTAL_CODE"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        begun = None if final else _BEGUN.search(text, max(start, len(text) - _MAX_UNDECIDED))
        settled = len(text) if begun is None else begun.start()
        position = start
        while (code := _CODE.search(text, position)) is not None and code.start() < settled:
            position = code.end()
            is_plain = _PLAIN.fullmatch(code.group()) is not None
            if not is_plain or _CUE.search(text, max(0, code.start() - _MAX_CUE), code.start()) is not None:
                spans.append(Span(code.start(), position))
        return spans, max(settled, position if spans else 0)
