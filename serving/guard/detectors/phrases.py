"""What people write before a number to say what it is: compared without case, accents or punctuation."""

from __future__ import annotations

CARDS = (
    "credit", "debit", "credit card", "debit card", "card", "cards", "credit cards", "cc", "card num", "visa",
    "mastercard", "maestro", "amex",
    "american express", "discover", "diners", "jcb", "pan", "kreditkarte", "kreditkartennummer", "carte",
    "carte bancaire", "carte bleue", "tarjeta", "carta", "carta di credito", "cartao", "kaart", "kort", "karta",
)  # fmt: skip
STATE_NUMBERS = (
    "ssn", "social security", "itin", "taxpayer", "taxpayer identification", "tax", "tin", "tax reference",
    "national insurance", "nino", "ni", "nhs", "steuer", "steuernummer", "steueridentifikationsnummer", "idnr",
    "rentenversicherungsnummer", "sozialversicherungsnummer", "nir", "securite sociale", "seguridad social",
    "seguranca social", "sicurezza sociale", "fiscal", "dni", "nie",
    "nif", "codice fiscale", "bsn", "burgerservicenummer", "sofinummer", "pesel", "nip", "cpf", "cnpj", "aadhaar",
    "aadhar", "uidai", "sin", "social insurance", "tfn", "tax file", "medicare", "personnummer", "personal identity",
    "cpr", "fodselsnummer", "henkilotunnus", "hetu", "ahv", "avs", "pps", "ppsn", "tckn", "kimlik", "rrn", "curp",
    "nric", "identity", "national", "national identity", "national identification", "citizen",
    "personal identification", "insurance identification",
)  # fmt: skip
DOCUMENTS = (
    "passport", "passeport", "reisepass", "pasaporte", "passaporto", "paspoort", "driver license", "drivers license",
    "driver s license", "driver licence", "drivers licence", "driver s licence", "driving licence", "driving license",
    "dl", "license", "licence", "fuhrerschein", "fuhrerscheinnummer", "permis de conduire", "patente", "visa",
    "residence permit", "ausweisnummer", "personalausweis", "identity document", "travel document", "green card",
    "alien registration", "voter",
)  # fmt: skip
MEDICAL = (
    "mrn", "medical record", "medical records", "patient", "patient record", "hospital", "health insurance",
    "health plan", "member", "beneficiary", "chart", "medicare", "medicaid", "policy holder", "versichertennummer",
    "krankenversicherungsnummer",
)  # fmt: skip
ACCOUNTS = (
    "account", "acct", "a c no", "a c number", "bank account",
    "checking account", "savings account", "routing", "sort", "kontonummer",
    "konto", "numero de compte", "cuenta", "bsb", "aba", "clabe", "swift", "bic", "customer account",
)  # fmt: skip
FILLERS = frozenset({
    "number", "numbers", "no", "nr", "num", "nummer", "numero", "nro", "id", "card", "code", "is", "are", "was", "has",
    "as", "the", "a", "an", "of", "my", "your", "his", "her", "their", "our", "s", "on", "in", "with", "to",
    "be", "date", "e", "und", "and",
})  # fmt: skip
"""What may stand between such a phrase and its number."""

PHONES = (
    "tel", "telefon", "telefono", "telefoon", "telefone", "handy", "mobil", "mobile", "movil", "celular", "cell",
    "fax", "whatsapp", "sms", "dial", "call", "ring", "desk",
)  # fmt: skip
"""Single words before a phone number; compounds of `phone` are others."""
