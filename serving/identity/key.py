"""The form of an API key, and what is stored of it."""

from __future__ import annotations

import hashlib
import re
import secrets

KEY_PREFIX = "sk-signet-"
_KEY = re.compile(re.escape(KEY_PREFIX) + "[A-Za-z0-9_-]{43}")


def generate_key() -> str:
    """`sk-signet-` and 43 url-safe characters: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def is_key(presented: str) -> bool:
    """Whether this has the form of a key."""
    return _KEY.fullmatch(presented) is not None


def digest_of(key: str) -> bytes:
    """SHA-256 of a key, all that is stored of it.

    A slow, salted hash (argon2, bcrypt) protects guessable passwords. A key of 256 random bits cannot be
    guessed at any speed nor found in a table, so a fast hash loses nothing and a request does not pay for it.
    """
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
