"""The length that a TLS ClientHello announces: OpenSSL allocates all of it before the bytes have come."""

from __future__ import annotations

# Those with post-quantum key shares have 2 KiB; OpenSSL itself takes 128 KiB.
MAX_HELLO_BYTES = 16 * 1024
_MAX_RECORD_BYTES = 16 * 1024  # RFC 8446, section 5.1
# A client may cut its message into records, and some do so once or twice.
_MOST_RECORDS = 16
# Record types, and the one of a handshake's messages that comes first (RFC 8446, sections 5.1 and 4).
_CHANGE_CIPHER_SPEC, _HANDSHAKE = 20, 22
_CLIENT_HELLO = 1
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4
# The "random" of a server that asks for another ClientHello (RFC 8446, section 4.1.3), and where it stands.
_RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")
_RANDOM = slice(_RECORD_HEAD + _MESSAGE_HEAD + 2, _RECORD_HEAD + _MESSAGE_HEAD + 2 + len(_RETRY))

REFUSAL = bytes([21, 3, 3, 0, 2, 2, 47])
"""A record with the alert `illegal_parameter`, fatal (RFC 8446, section 6)."""


class NotClientHello(ValueError):
    """What came is no ClientHello, or one that is longer than any client's."""


def end_of_hello(data: bytes | bytearray) -> int | None:
    """Where the ClientHello ends that `data` begins with; None: not all of it has come.

    Raises:
        NoHello: it is none, longer than `MAX_HELLO_BYTES`, or cut as no client cuts it.
    """
    position, num_bytes, head = 0, 0, b""
    for _ in range(_MOST_RECORDS):
        if len(data) < position + _RECORD_HEAD:
            return None
        kind, size = data[position], int.from_bytes(data[position + 3 : position + _RECORD_HEAD])
        begin, position = position + _RECORD_HEAD, position + _RECORD_HEAD + size
        if kind == _CHANGE_CIPHER_SPEC and size == 1:
            continue  # a client of TLS 1.3 sends it before its second ClientHello
        if kind != _HANDSHAKE or not 0 < size <= _MAX_RECORD_BYTES:
            raise NotClientHello
        head += data[begin : min(position, begin + _MESSAGE_HEAD - len(head))]
        num_bytes += size
        if head[:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise NotClientHello
        if len(head) == _MESSAGE_HEAD:
            claimed = int.from_bytes(head[1:])
            if claimed > MAX_HELLO_BYTES:
                raise NotClientHello
            if num_bytes >= _MESSAGE_HEAD + claimed:
                return position if position <= len(data) else None
    raise NotClientHello


def asks_for_another(answer: bytes) -> bool:
    """Whether a server's first message is a HelloRetryRequest, after which a second ClientHello comes."""
    return answer[_RANDOM] == _RETRY
