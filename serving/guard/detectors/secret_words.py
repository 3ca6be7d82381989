"""Words before a secret, in patterns: compared without case in the folded text, where accents are gone."""

from __future__ import annotations

from serving.guard.detectors.sieve import Sieve

LOGIN_WORDS = (
    "passwor[dt]|passwd|passphrase|passcode|pswd|pwd|kennwort|zugangscode|mot de passe|mdp|contrasen[ya]a?|clave|senha"
    "|palavra[- ]passe|palavra[- ]chave|parola d.ordine|parola|wachtwoord|losenord|passord|adgangskode|salasana"
    "|hasl[oa]|haslem|hasxo|hesl[oa]|jelszo|jelszava"
    "|lozink[ae]|geslo|sifre(?:si|m|niz)?|parool|parola(?:si)?|parole|slaptazodis|mat khau|kata sandi|sandi|parolx"
)
"""Norwegian to Vietnamese; Polish, Russian and Ukrainian as they are folded."""

WEAK_WORDS = (
    r"(?:(?<![A-Za-z])|(?<=\\[nrtbf]))(?:[Pp]ass|PASS(?!:\s)|(?<![A-Za-z0-9+/]{16})(?:pw|PW|psw)|passw)"
    r"|(?<=[a-z0-9])(?:Pass|(?<![A-Za-z0-9+/]{16})Pw)"
)
"""Words of their own, or the last part of a name: `DB_PASS`, `userPass`; not the end of another word, or of base64."""

FOREIGN_WORDS = (
    "密[码碼]|口令|パスワ-ド|暗証番号|비밀번호|패스워드|암호|كلمة (?:المرور|السر)|סיסמ[אה]|पासवर्ड|รหัสผ่าน|գաղտնաբառ"
)
"""Of writings that are not folded."""
FOREIGN_IS = "\u662f\u4e3a\u70ba\u306f\uc740\ub294\uc774\uac00"
"""`is` in Chinese, Japanese and Korean."""
FOREIGN_STARTS = ("密", "口令", "パスワ", "暗証", "비밀", "패스", "암호", "كلمة", "סיסמ", "पासव", "รหัส", "գաղտ")
"""How they begin: most texts hold none, and it takes less to see that."""

_KEYS = "api|app|access|account|auth|client|encryption|private|secret|signing|master|webhook"
KEY_WORDS = (
    rf"secret(?:_?key_?base)?|(?<!public)token|(?:{_KEYS})[_ -]?key(?:[_-]base)?"
    "|cle (?:d.api|api|secrete)|api[- ]?schlussel"
    "|(?:chave|clave|llave|chiave) (?:d[aei] )?(?:api|secreta|segreta)"
)
"""What a token is called."""

IS_WORDS = "is|are|lautet|ist|es|est|jest|ar|er"
"""Between a word and its value."""

# Cues with what follows them first. RE2's white space is ASCII's, and other characters are `?` in a sieve.
_SPACE = r"[\s\x0b\x1c-\x1f?]"
_ALL_KEYS = KEY_WORDS.replace("(?<!public)", "")
SECRETS = Sieve(
    rf"(?i:(?:{LOGIN_WORDS}|{_ALL_KEYS}|pass|pw|psw|pswd|passw|mdp)\\{{0,2}}[\"'`]?(?:{_SPACE}{{0,3}}[:=>]|,?{_SPACE}+\\{{0,2}}[\"'`]?value"
    rf"|{_SPACE}-{_SPACE}|{_SPACE}?,{_SPACE}?[\\\"'`]|{_SPACE}{{1,3}}(?:(?:{IS_WORDS})[\s:?]|[\"'])))",
    r"(?i:-(?:pass(?:word|wd|phrase)?|pw|pwd|token|api-key|secret)[ \t=])",
    r"sshpass[ \t]{1,2}-p|(?:mysql(?:dump|admin)?|docker login)\b[^\n|]{0,56}[ \t]-p",
    r"login[ \t\n]+\S+[ \t\n]+password[ \t\n]",
    r"\s(?:-u|--user|-a|--auth|--proxy-user|-U)[ =]?[\"']?[\w.@+%?-]+:",
    r":(?:54\d\d|6432|\*):[\w.*?-]+:",
)
