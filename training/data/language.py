"""Which language a text is in: by its script, then by its commonest words. No model, no packages.

It knows 38 languages and says nothing rather than guess: of a text of fewer than about eight words, of one in several
languages, of slang, of names and tables. It does not tell languages apart that share both script and little words
(Bokmål and Danish often, Serbian and Croatian never); for such data, name both, or label the language yourself.
"""

from __future__ import annotations

import re
from functools import cache

_SCRIPTS = {
    "ja": "\u3040-\u30ff",  # kana: Japanese, however many Chinese characters stand beside them
    "ko": "\uac00-\ud7af",
    "zh": "\u3400-\u4dbf\u4e00-\u9fff",
    "th": "\u0e01-\u0e5b",
    "el": "\u0370-\u03ff",
    "he": "\u0590-\u05ff",
    "hi": "\u0900-\u097f",
    "bn": "\u0980-\u09ff",
    "ta": "\u0b80-\u0bff",
    "ka": "\u10a0-\u10ff",
    "hy": "\u0530-\u058f",
    "cyrillic": "\u0400-\u052f",
    "arabic": "\u0600-\u06ff",
    "latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
}
_COMMON = {
    "en": "the of and to in is that it for was on are with as be this have from at or by not you they which",
    "de": "der die das und ist nicht ein eine zu den mit von sich auf für im dem des auch es wird aus sie",
    "fr": "le la les de des et est un une que qui dans pour pas sur au avec ce il plus par sont ne du",
    "es": "el la los las de que y en un una es por con no para se del al como su más lo pero",
    "pt": "o a os as de que e em um uma é por com não para se do da no na como mais mas ao foi",
    "it": "il lo la gli le di che e in un una è per con non si del della sono come più ma anche nel",
    "nl": "de het een en van is dat niet op te zijn voor met die aan er ook maar om bij naar wordt",
    "sv": "och att det som en är på för av inte den med till om ett var har jag men från kan ska",
    "da": "og at det som en er på for af ikke den med til om et var har jeg men fra kan skal efter",
    "no": "og at det som en er på for av ikke den med til om et var har jeg men fra kan skal etter være",
    "fi": "ja on ei se että oli hän mutta ovat kuin joka myös sen olla tai jos mitä niin kun vain",
    "pl": "i w nie na się z do to że jest o jak ale po za od co tak dla przez był oraz są",
    "cs": "a v se na je že o s z do to i ale jako za by jsou pro při které jeho nebo byl také",
    "hu": "a az és hogy nem is egy van ez meg volt csak már mint de ha még vagy azt után lesz",
    "ro": "și de la în a nu cu pe un o că este din care mai pentru ce sunt dar ca au prin",
    "tr": "ve bir bu da de için ile çok ne o gibi daha ama en kadar olarak var sonra olan ben değil",
    "vi": "của và là các có không được cho một những trong người với này để khi đã từ về như",
    "id": "yang dan di dengan untuk tidak ini dari itu dalam akan pada ke adalah juga ada bisa oleh atau kami",
    "ca": "el la els les de i que en un una és per amb no es del al més però com són dels aquest",
    "hr": "i je u na se da za su od s ne što kao to ali ili bi ako iz samo biti nije koji",
}
_CYRILLIC = {
    "uk": "і в на не що з до та це як за від але для про так ми його є було або вже",
    "bg": "и на да се в за не от с че по са като но това ще към при или беше който",
    "sr": "и је у на се да за су од не што као то али или би ако из само није који",
    "ru": "и в не на что с я он как это по но из у за от то же для так все бы был",
}
_ARABIC = {
    "ar": "في من على إلى أن هذا عن مع التي كان لا ما هذه هو ذلك قد لم بعد كل بين",
    "fa": "و در به از که این را با است برای آن یک تا می بر هم شد خود ها بود",
    "ur": "کے میں ہے کی اور سے کا کو نے پر یہ کہ ہیں اس بھی تھا نہیں ایک لیے ہو",
}
_LEAST_WORDS = 2
"""Common words that must be there."""
_LEAST_SHARE = 0.1
"""Part of the words that must be common ones."""
_MOST_READ = 4000
"""Characters, from the beginning."""
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str | None:
    """ISO 639-1 code; None where it is not known."""
    read = text[:_MOST_READ]
    script = _script_of(read)
    if script == "latin":
        return _by_words(read, "latin")
    if script in ("cyrillic", "arabic"):
        return _by_words(read, script)
    return script


def known_languages() -> list[str]:
    """Every code that `language_of` may give."""
    return sorted({*_SCRIPTS, *_COMMON, *_CYRILLIC, *_ARABIC} - {"cyrillic", "arabic", "latin"})


def _script_of(text: str) -> str | None:
    """The script of most letters; of few, or of a mixture, none."""
    letters = {name: len(pattern.findall(text)) for name, pattern in _patterns().items()}
    # Japanese is written with Chinese characters too, of which a page of it may have more.
    if letters["ja"] * 10 > letters["zh"]:
        letters["ja"] += letters.pop("zh")
    total = sum(letters.values())
    script = max(letters, key=letters.__getitem__)
    return script if total and letters[script] >= 0.6 * total and total >= 4 else None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(f"[{signs}]") for name, signs in _SCRIPTS.items()}


@cache
def _words(script: str) -> dict[str, dict[str, float]]:
    """Each language's common words; a word that several have says less for each of them."""
    tables = {"latin": _COMMON, "cyrillic": _CYRILLIC, "arabic": _ARABIC}[script]
    lists = {language: words.split() for language, words in tables.items()}
    shared: dict[str, int] = {}
    for words in lists.values():
        for word in words:
            shared[word] = shared.get(word, 0) + 1
    return {language: {word: 1 / shared[word] for word in words} for language, words in lists.items()}


def _by_words(text: str, script: str) -> str | None:
    words = _WORD.findall(text.casefold())
    scores: dict[str, float] = {}
    common: dict[str, int] = {}
    for language, weights in _words(script).items():
        known = [weights[word] for word in words if word in weights]
        scores[language], common[language] = sum(known), len(known)
    best, second = sorted(scores, key=scores.__getitem__, reverse=True)[:2]
    if common[best] < max(_LEAST_WORDS, _LEAST_SHARE * len(words)) or scores[best] < 1.15 * scores[second]:
        return None
    return best
