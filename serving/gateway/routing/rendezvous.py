"""Rendezvous hashing: everybody who knows the same names ranks them alike for a key (Thaler, Ravishankar, 1998)."""

from __future__ import annotations

_MASK = 0xFFFFFFFFFFFFFFFF


def weight(key: int, seed: int) -> int:
    """A number of 64 bits for a key and a name's seed; the name with the largest is the key's.

    MurmurHash3's finalizer: Python's own hash of a tuple mixes too little, one engine got twice another's share.
    """
    mixed = (key ^ seed) & _MASK
    mixed = (mixed ^ mixed >> 33) * 0xFF51AFD7ED558CCD & _MASK
    mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return mixed ^ mixed >> 33
