"""What vendors' keys look like, as far as that is published or shown in documentation, and where one may begin.

A key is certain once its parts have come; how it goes on is its rest.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.guard.detectors.growing import Part, Run, whole
from serving.guard.detectors.sieve import LEFT, Sieve

_WORD = "[A-Za-z0-9_-]"
_ALNUM = "[A-Za-z0-9]"
_SLASH = (r"\\", 0, 2), "/"
"""As it stands in JSON that escapes it, too."""

PLAIN = Run("A-Za-z0-9_-")
DOTTED = Run("A-Za-z0-9_=-", ".")
_PADDED = Run("A-Za-z0-9_+/=-")
_PATH = Run("A-Za-z0-9_-", "/")

BEARER_CUE = r"[Bb](?:earer|EARER)[ \t]{1,4}"
AWS_CUE = r"[Ss](?:ecret|ECRET)[_ -]?(?:access|Access|ACCESS)[_ -]?(?:key|Key|KEY)[\"' \t:=]{1,8}"


class Shape(NamedTuple):
    """One kind of key."""

    parts: tuple[Part, ...]
    chars: str
    least: int
    """So many of `chars` behind the parts make a key certain."""
    rest: Run = PLAIN
    only: str = ""
    """What must be true of it beside, as a pattern that looks ahead."""


def _prefixed(least: int, chars: str, prefixes: str, rest: Run = PLAIN) -> tuple[Shape, ...]:
    """Keys of several prefixes and at least so many characters."""
    return tuple(Shape((prefix,), chars, least, rest) for prefix in prefixes.split())


def _address(*segments: Part, least: int) -> Shape:
    """A key that is an address, and ends in a secret of at least so many characters: whoever has it may post."""
    return Shape(tuple(part for segment in segments for part in (segment, *_SLASH)), _WORD, least, _PATH)


# A name in code of such a form seldom holds a digit; a token without one among its first characters is rarer still.
_WITH_DIGIT = r"(?=[A-Za-z_.-]{0,57}[0-9])"

API_KEYS: tuple[Shape, ...] = (
    *_prefixed(16, _WORD, "sk-signet- sk-ant- sk-proj- sk-svcacct- sk-admin- sk-or-v1-"),
    *_prefixed(16, "[A-Z0-9]", "AKIA ASIA ABIA ACCA"),  # AWS, long-lived and temporary
    *_prefixed(20, _ALNUM, "ghp_ gho_ ghu_ ghs_ ghr_"),  # GitHub
    *_prefixed(16, "[A-Za-z0-9_]", "github_pat_"),
    *_prefixed(16, _WORD, "glpat- gldt- glrt- glcbt- glptt-"),  # GitLab
    *_prefixed(12, _WORD, "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-"),  # Slack
    *_prefixed(16, _WORD, "xapp-"),
    *_prefixed(30, _WORD, "AIza"),  # Google
    *_prefixed(16, _WORD, "GOCSPX-"),
    *_prefixed(10, _ALNUM, "sk_live_ sk_test_ rk_live_ rk_test_"),  # Stripe
    *_prefixed(16, _ALNUM, "whsec_"),
    *_prefixed(24, _ALNUM, "hf_ npm_ gsk_ xai- pplx-"),
    *_prefixed(24, _WORD, "pypi-Ag nvapi-"),
    *_prefixed(24, "[a-f0-9]", "dop_v1_"),
    *_prefixed(24, "[A-Fa-f0-9]", "shpat_"),
    *_prefixed(28, "[a-f0-9]", "dapi"),
    *_prefixed(32, "[a-f0-9]", "SK"),  # Twilio
    *_prefixed(16, _WORD, "SG. ya29.", DOTTED),  # SendGrid, Google
    # JSON web tokens whose headers begin with alg, typ, kid, enc …
    *_prefixed(8, _WORD, "eyJhbGciOi eyJ0eXAiOi eyJraWQiOi eyJlbmMiOi eyJjdHkiOi eyJ4NXQiOi eyJqa3UiOi", DOTTED),
    # docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys: users', browsers', insights'; licences end in NRAL.
    *_prefixed(20, "[A-Z0-9]", "NRAK-"),
    *_prefixed(16, "[a-f0-9]", "NRJS-"),
    *_prefixed(24, _WORD, "NRII- NRIQ-"),
    Shape((("[A-Fa-f0-9ux]", 36, 36), "NRA"), "L", 1),
    # grafana.com/docs/grafana/latest/developers/http_api/serviceaccount, …/authentication; the last begins with {"k":".
    *_prefixed(24, "[A-Za-z0-9_]", "glsa_"),
    *_prefixed(24, "[A-Za-z0-9+/]", "glc_ eyJrIjoi", _PADDED),
    *_prefixed(20, _WORD, "hvs. hvb. hvr."),  # developer.hashicorp.com/vault/docs/concepts/tokens
    # docs.doppler.com/reference/auth-token-formats; those of services may name their environment.
    *_prefixed(24, _ALNUM, "dp.pt. dp.ct. dp.sa. dp.st. dp.scim. dp.audit."),
    Shape(("dp.st.", ("[a-z0-9_-]", 2, 35), "."), _ALNUM, 24),
    # support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account, and Bitbucket's.
    *_prefixed(24, _WORD, "ATATT3 ATCTT3 ATSTT3", DOTTED),
    *_prefixed(24, _ALNUM, "ATBB"),
    # core.telegram.org/bots/api, with the word before the number in addresses of its API.
    Shape((("[0-9]", 6, 12), ":AA"), _WORD, 33),
    Shape(("bot", ("[0-9]", 6, 12), ":AA"), _WORD, 33),
    # docs.discord.com/developers/reference#authentication, …/resources/webhook
    Shape((("[MNO]", 1, 1), (_WORD, 23, 27), ".", (_WORD, 6, 6), "."), _WORD, 27, only=_WITH_DIGIT),
    *(
        _address(host, "api", *version, "webhooks", ("[0-9]", 17, 20), least=24)
        for host in ("discord.com", "discordapp.com")
        for version in ((), (("[v0-9]", 2, 3),))
    ),
    # docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, and those of workflows
    *(
        _address(host, kind, (_ALNUM, 8, 16), (_ALNUM, 8, 20), *more, least=12)
        for host in ("hooks.slack.com", "hooks.slack-gov.com")
        for kind, more in (("services", ()), ("triggers", ()), ("workflows", ((_ALNUM, 8, 24),)))
    ),
)  # fmt: skip
AGE_KEYS: tuple[Shape, ...] = _prefixed(40, "[A-Z0-9]", "AGE-SECRET-KEY-1 AGE-SECRET-KEY-PQ-1")
"""github.com/C2SP/C2SP/blob/main/age.md; Bech32 in capitals."""


def _begun(shape: Shape) -> str:
    """Parts of a shape and two characters behind them: few positions have that, and it takes RE2 few states."""
    return whole((*shape.parts, (shape.chars, min(2, shape.least), 2)))


KEYS = Sieve(
    rf"{LEFT}(?:{'|'.join(map(_begun, (*API_KEYS, *AGE_KEYS)))})",
    rf"{LEFT}(?:sk-|eyJ)[A-Za-z0-9_-]{{2}}",
    BEARER_CUE,
    AWS_CUE,
    r"[Bb](?:asic|ASIC)[ \t]",
    # RE2's white space is ASCII's, and other characters are `?` in a sieve.
    r"auth\\{0,2}[\"']?[\s\x0b\x1c-\x1f?]{0,2}[:=]",
)
"""Also the JSON escape before it, and the cues."""
