"""Names, streets, towns and jobs of many countries, from the `faker` package (MIT), as lists to draw from."""

from __future__ import annotations

import random
from importlib import import_module
from typing import Any

LOCALES = (
    "en_US", "en_US", "en_GB", "en_AU", "en_CA", "en_IN", "en_IE", "en_NZ", "en_PK", "en_NG", "en_KE", "de_DE",
    "de_AT", "de_CH", "fr_FR", "fr_CA", "fr_CH", "fr_BE", "es_ES", "es_MX", "es_AR", "es_CL", "es_CO", "it_IT",
    "pt_BR", "pt_PT", "nl_NL", "nl_BE", "sv_SE", "no_NO", "da_DK", "fi_FI", "is_IS", "pl_PL", "cs_CZ", "sk_SK",
    "hu_HU", "ro_RO", "hr_HR", "sl_SI", "tr_TR", "et_EE", "lt_LT", "lv_LV", "id_ID", "vi_VN", "fil_PH", "az_AZ",
    "sq_AL", "sw", "zu_ZA", "yo_NG", "ga_IE", "ru_RU", "uk_UA", "bg_BG", "el_GR", "el_CY",
)  # fmt: skip

_DRAWS = 500
"""Streets and towns of each locale: most of what faker can make of them."""

_CYRILLIC = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i", "й": "y", "к": "k",
    "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u", "ф": "f", "х": "kh",
    "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "yu", "я": "ya",
    "і": "i", "ї": "yi", "є": "ye", "ґ": "g",
}  # fmt: skip
_GREEK = {
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i", "κ": "k", "λ": "l",
    "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t", "υ": "y", "φ": "f",
    "χ": "ch", "ψ": "ps", "ω": "o", "ά": "a", "έ": "e", "ή": "i", "ί": "i", "ό": "o", "ύ": "y", "ώ": "o", "ϊ": "i",
    "ϋ": "y",
}  # fmt: skip
_LETTERS = _CYRILLIC | _GREEK
_TO_LATIN = str.maketrans({**_LETTERS, **{char.upper(): latin.capitalize() for char, latin in _LETTERS.items()}})


class Gazetteer:
    """Lists by locale. Persons, streets and towns are drawn from any, as texts mix them."""

    def __init__(self, seed: int, locales: tuple[str, ...] = LOCALES, draws: int = _DRAWS) -> None:
        faker = import_module("faker")
        faker.Faker.seed(seed)
        self._firsts: list[list[str]] = []
        self._lasts: list[list[str]] = []
        self._streets: list[list[str]] = []
        self._cities: list[list[str]] = []
        self._countries: list[str] = []
        for locale in locales:
            try:
                made = faker.Faker(locale)
            except AttributeError:  # other releases of faker have other locales
                continue
            self._read(made, draws)
        english = faker.Faker("en_US")
        self._countries += [english.country() for _ in range(draws)]
        self._jobs: list[str] = [english.job() for _ in range(draws)]

    def _read(self, made: Any, draws: int) -> None:
        person = next(provider for provider in made.get_providers() if hasattr(provider, "first_names"))
        firsts = {
            str(name)
            for kind in ("first_names", "first_names_male", "first_names_female")
            for name in getattr(person, kind, ())
        }
        lasts = {
            str(name)
            for kind in ("last_names", "last_names_male", "last_names_female")
            for name in getattr(person, kind, ())
        }
        if firsts and lasts:
            self._firsts.append(_latin(firsts))
            self._lasts.append(_latin(lasts))
        self._streets.append(_latin({made.street_name() for _ in range(draws)}))
        self._cities.append(_latin({made.city() for _ in range(draws)}))

    def person(self, source: random.Random) -> tuple[str, str]:
        """A first and a last name, of one country mostly."""
        number = source.randrange(len(self._firsts))
        other = number if source.random() < 0.9 else source.randrange(len(self._firsts))
        return source.choice(self._firsts[number]), source.choice(self._lasts[other])

    def street(self, source: random.Random) -> str:
        return source.choice(source.choice(self._streets))

    def city(self, source: random.Random) -> str:
        return source.choice(source.choice(self._cities))

    def country(self, source: random.Random) -> str:
        return source.choice(self._countries)

    def job(self, source: random.Random) -> str:
        return source.choice(self._jobs)


def _latin(names: set[str]) -> list[str]:
    """In a fixed order, and in Latin letters where they are Cyrillic or Greek."""
    return sorted(name.translate(_TO_LATIN) for name in names)
