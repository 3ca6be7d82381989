"""Settings as they may be shown: people ask what is in force, and paste the answer into a ticket.

What is masked goes by its kind, not by a list of settings: every typed secret, user and password of every URL, every
value of an environment, and what an option holds that is named after a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

MASK = "**********"

# The last word of a name decides: `engine_api_key`, `--hf-token`, `DB_PASSWORD`; not `max_tokens` or `keyring`.
_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:api-?key|keys?|token|password|passwd|passphrase|pass|pwd|secrets?|credentials?|auth|authorization"
    r"|cookie|dsn)$",
    re.IGNORECASE,
)
# RFC 3986: user information reaches to the last @ before the path.
_USER_INFORMATION = re.compile(r"(?<=://)[^/?#\s]*@")
_IN_QUERY = re.compile(r"(?<=[?&;])([^=&;#\s]+)=([^&;#\s]*)")
_OPTION = re.compile(r"(--?[A-Za-z][\w.-]*)(=?)(.*)", re.DOTALL)
_ENVIRONMENT = "environment"


def masked(value: Any, name: str = "") -> Any:
    """`value` of the setting `name` as it may be shown: plain values that YAML and JSON can hold."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): MASK if name == _ENVIRONMENT else masked(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return _masked_words([masked(one) for one in value])
    if isinstance(value, str):
        return masked_text(value)
    return value if isinstance(value, bool | int | float | None) else str(value)


def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret, by the name's last word."""
    return _SECRET_NAME.search(name) is not None


def masked_text(text: str) -> str:
    """A text whose URLs show neither user nor password, nor a secret in their query."""
    if "://" not in text:
        return text
    text = _USER_INFORMATION.sub(f"{MASK}@", text)
    return _IN_QUERY.sub(lambda part: f"{part[1]}={MASK}" if is_secret_name(part[1]) else part[0], text)


def masked_url(url: str) -> str:
    """As `masked_text`, of what should be a URL and may be none: nothing before its last @ is shown."""
    before, at, after = url.rpartition("@")
    scheme = before.partition("://")[0] + "://" if "://" in before else ""
    return masked_text(f"{scheme}{MASK}@{after}" if at else url)


def _masked_words(words: list[Any]) -> list[Any]:
    """A command line's words; a secret is in its option's word, or in the words behind it."""
    shown, after_secret = [], False
    for word in words:
        option = _OPTION.fullmatch(word) if isinstance(word, str) else None
        if option is None:
            shown.append(MASK if after_secret else _masked_json(word))
            continue
        secret, joined = is_secret_name(option[1]), bool(option[2])
        after_secret = secret and not joined
        inside = MASK if secret else _masked_json(option[3])
        shown.append(f"{option[1]}={inside}" if joined else word)
    return shown


def _masked_json(word: Any) -> Any:
    if not isinstance(word, str) or word[:1] not in ("{", "["):
        return word
    try:
        value = json.loads(word)
    except ValueError:
        return word
    return json.dumps(_masked_names(value))


def _masked_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: MASK if is_secret_name(key) else _masked_names(one) for key, one in value.items()}
    return [_masked_names(one) for one in value] if isinstance(value, list) else value
