"""Check digits of numbers that identify a person or an account. Each takes the number without separators."""

from __future__ import annotations

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
"""Digit sums of twice a digit."""
_VERHOEFF = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_TURNS = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_CODICE_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
"""Italy's table for letters (and digits, as A to J) in odd positions."""


def luhn(digits: str) -> bool:
    """ISO/IEC 7812: cards, Sweden's and South Africa's numbers."""
    code = digits.encode()
    total = sum(code[-1::-2]) + sum(code[-2::-2].translate(_DOUBLED))
    return (total - len(code) * ord("0")) % 10 == 0


def iban(text: str) -> bool:
    """ISO 13616: modulo 97 over the number with its first four characters at the end."""
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    """The sum of digits times weights, over as many as there are weights."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def verhoeff(digits: str) -> bool:
    """India's Aadhaar."""
    check = "0"
    for position, digit in enumerate(reversed(digits)):
        check = _VERHOEFF[int(check)][int(_VERHOEFF_TURNS[position % 8][int(digit)])]
    return check == "0"


def cpf(digits: str) -> bool:
    """Brazil's persons: two check digits modulo 11."""
    return len(set(digits)) > 1 and all(
        weighted(digits, tuple(range(size + 1, 1, -1))) * 10 % 11 % 10 == int(digits[size]) for size in (9, 10)
    )


def cnpj(digits: str) -> bool:
    """Brazil's companies."""
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return all(weighted(digits, weights[13 - size :]) * 10 % 11 % 10 == int(digits[size]) for size in (12, 13))


def codice_fiscale(text: str) -> bool:
    """Italy: a check letter over fifteen characters."""
    total = 0
    for position, char in enumerate(text[:15]):
        value = int(char) if char.isdigit() else _LETTERS.index(char)
        total += value if position % 2 else _CODICE_ODD[value]
    return text[15] == _LETTERS[total % 26]


def nir(text: str) -> bool:
    """France: thirteen characters and 97 minus their remainder; Corsica's 2A and 2B count as 19 and 18."""
    body = text[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(text[13:])


def dni(text: str) -> bool:
    """Spain's DNI, and NIE whose first letter stands for a digit."""
    digits = text[:-1].translate(str.maketrans("XYZ", "012"))
    return _DNI[int(digits) % 23] == text[-1]


def nric(text: str) -> bool:
    """Singapore: the letter depends on the series."""
    total = weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2))
    total += {"T": 4, "G": 4, "M": 3}.get(text[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "KLJNPQRTUWX"}.get(text[0], "XWUTRQPNMLK")
    position = total % 11
    return letters[10 - position if text[0] == "M" else position] == text[8]


def hetu(text: str) -> bool:
    """Finland: day of birth (a century sign), three digits, a check character modulo 31."""
    return _HETU[int(text[:6] + text[-4:-1]) % 31] == text[-1]


def resident_id(text: str) -> bool:
    """China: ISO 7064 modulo 11-2 over seventeen digits."""
    total = weighted(text, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))
    return "10X98765432"[total % 11] == text[17]


def national_register(digits: str) -> bool:
    """Belgium: 97 minus the remainder of nine digits, with a 2 before them for those born since 2000."""
    check = int(digits[9:])
    return any(97 - int(century + digits[:9]) % 97 == check for century in ("", "2"))


def birth_number(digits: str) -> bool:
    """Norway: two check digits modulo 11."""
    return (
        weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def ean(digits: str) -> bool:
    """Switzerland's AHV number: weights 1 and 3 in turn."""
    return weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0
