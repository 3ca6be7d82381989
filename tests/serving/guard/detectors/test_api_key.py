"""Keys in the formats that vendors publish: each is masked wherever it stands, and what only resembles one passes."""

from __future__ import annotations

import base64
import random
import string
from itertools import pairwise

import pytest

from serving.guard import Guard, GuardSettings

GUARD = Guard(GuardSettings())

ALNUM = string.ascii_letters + string.digits
WORD = ALNUM + "_-"
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits


def drawn(rng: random.Random, letters: str, count: int) -> str:
    return "".join(rng.choices(letters, k=count))


def keys(rng: random.Random) -> dict[str, str]:
    """One of each kind."""
    ids = drawn(rng, "123456789", 18)
    return {
        "slack webhook": f"hooks.slack.com/services/T{ids[:8]}/B{drawn(rng, UPPER, 10)}/{drawn(rng, ALNUM, 24)}",
        "slack trigger": f"hooks.slack.com/triggers/T{drawn(rng, UPPER, 10)}/{ids[:13]}/{drawn(rng, HEX, 32)}",
        "discord webhook": f"discord.com/api/webhooks/{ids}/{drawn(rng, WORD, 68)}",
        "discord webhook, old": f"discordapp.com/api/v9/webhooks/{ids}/{drawn(rng, WORD, 68)}",
        "discord bot": f"{base64.b64encode(ids.encode()).decode()}.{drawn(rng, WORD, 6)}.{drawn(rng, WORD, 38)}",
        "telegram": f"{ids[:10]}:AA{drawn(rng, WORD, 33)}",
        "telegram address": f"bot{ids[:9]}:AA{drawn(rng, WORD, 33)}/sendMessage".partition("/")[0],
        "new relic user": f"NRAK-{drawn(rng, UPPER, 27)}",
        "new relic licence": f"eu01xx{drawn(rng, HEX, 26)}FFFFNRAL",
        "grafana service": f"glsa_{drawn(rng, ALNUM, 32)}_{drawn(rng, HEX, 8)}",
        "grafana cloud": f"glc_{base64.b64encode(drawn(rng, ALNUM, 80).encode()).decode()}",
        "vault": f"hvs.{drawn(rng, WORD, 91)}",
        "doppler": f"dp.ct.{drawn(rng, ALNUM, 43)}",
        "doppler service": f"dp.st.dev_eu.{drawn(rng, ALNUM, 43)}",
        "atlassian": f"ATATT3xFfGF0{drawn(rng, WORD, 170)}={drawn(rng, HEX.upper(), 8)}",
    }


@pytest.mark.parametrize("kind", keys(random.Random(0)))
def test_a_key_is_masked_and_what_stands_round_it_stays(kind: str) -> None:
    for seed in range(20):
        value = keys(random.Random(seed))[kind]
        for text in ("use {} now", 'curl "https://{}"', '{{"url": "https://{}", "n": 1}}', "KEY={}\nPORT=80", "'{}',"):
            assert GUARD.clean_text(text.format(value))[0] == text.format("[API_KEY]"), value


def test_an_age_key_is_a_private_key() -> None:
    value = "AGE-SECRET-KEY-1" + drawn(random.Random(1), "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)

    assert GUARD.clean_text(f"# public key: age1…\n{value}\n")[0] == "# public key: age1…\n[PRIVATE_KEY]\n"


@pytest.mark.parametrize(
    "text",
    [
        "post to hooks.slack.com/services/ with your own path",
        "https://hooks.slack.com/services/TEAM/CHANNEL/TOKEN",
        "https://discord.com/api/webhooks/ID/TOKEN or discord.com/channels/1234567890123456789/1",
        "at 1234567890:AAB and 12:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw8",
        "NotificationServiceFactoryBean.create.withAVeryLongMethodNameIndeedYes",
        "an AGE-SECRET-KEY-1 begins so",
        "the glsa_ and glc_ prefixes, hvs. and dp.pt. too; NRAK- as well",
        "0123456789abcdef0123456789abcdef01234567 is a digest, CENTRAL 0123NRAL",
        "hvs.example.com and dp.st.example",
        "ATATT3 begins a token, SOMEATATT3xFfGF0abcdefghijklmnopqrstuvwx does not",
    ],
)
def test_what_resembles_a_key_passes(text: str) -> None:
    assert GUARD.clean_text(text)[0] == text


def credentials(name: str, password: str) -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "curl -H 'Authorization: Basic {}' https://api.example.org",
        "authorization: basic {}\nAccept: */*",
        '{{"headers": {{"Authorization": "Basic {}"}}}}',
        '{{"auths": {{"registry.example.org": {{"auth": "{}"}}}}}}',
        '{{\\"auth\\": \\"{}\\"}}',
        "//registry.example.org/:_auth={}",
    ],
)
@pytest.mark.parametrize(("name", "password"), [("svc", "s3cret-Enough"), ("", "token0123456789"), ("ann", "p" * 300)])
def test_basic_credentials_are_masked(text: str, name: str, password: str) -> None:
    whole = text.format(credentials(name, password))
    expected = text.format("[PASSWORD]")

    assert GUARD.clean_text(whole)[0] == expected
    for size in (1, 3, 7):
        assert in_pieces(whole, size) == expected


def test_passwords_may_be_in_any_writing() -> None:
    assert GUARD.clean_text(f"Basic {credentials('jürgen', 'größe12')}.")[0] == "Basic [PASSWORD]."


@pytest.mark.parametrize(
    "text",
    [
        "Basic understanding of base64 is needed. BASIC 2.0, Basic authentication, basic/simple",
        "Authorization: Basic <credentials>",
        "Basic dGhpcyBpcyBqdXN0IHRleHQ=",  # no colon
        "Basic AAECAzoEBQYH",  # no text
        "Basic 0123456789abcdef0123456789abcdef",
        "auth: required, auth=none, auth = get_auth_token_0",
        "oauth=0123456789abcdef",
    ],
)
def test_what_follows_such_words_passes_when_it_says_no_name_and_password(text: str) -> None:
    assert GUARD.clean_text(text)[0] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("git clone https://ann:t0ken@git.example.org/a.git", "git clone https://[CONNECTION_STRING]"),
        ("https://:t0ken@git.example.org/", "https://[CONNECTION_STRING]"),
        ("ftp://ann:pw@192.0.2.7:21/x now", "ftp://[CONNECTION_STRING] now"),
        ("https://ann@git.example.org/a.git", "https://[EMAIL_ADDRESS]/a.git"),
    ],
)
def test_names_and_passwords_in_addresses_are_masked(text: str, expected: str) -> None:
    assert GUARD.clean_text(text)[0] == expected


def test_every_cutting_gives_what_the_whole_gives() -> None:
    rng = random.Random(3)
    glue = [" ", "\n", "\\n", "https://", "/", ".", ":", "=", '"', "a", "7", "bot", "Basic ", "auth=", "AA", "x" * 20]
    for _ in range(250):
        pieces = [*keys(rng).values(), f"Basic {credentials('ann', drawn(rng, ALNUM, rng.randint(1, 150)))}"]
        chosen = [rng.choice(pieces) for _ in range(3)]
        chosen[1] = chosen[1][: rng.randrange(len(chosen[1]))]
        text = "".join(part for piece in chosen for part in (rng.choice(glue), piece, rng.choice(glue)))
        whole = GUARD.clean_text(text)[0]

        places = sorted(rng.choices(range(len(text) + 1), k=rng.randint(1, 9)))
        assert cut(text, places) == whole, (text, places)
        assert in_pieces(text, 1) == whole, text


def in_pieces(text: str, size: int) -> str:
    return cut(text, list(range(size, len(text), size)))


def cut(text: str, places: list[int]) -> str:
    stream = GUARD.stream()
    pieces = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    return "".join(stream.feed(piece) for piece in pieces) + stream.finish()
