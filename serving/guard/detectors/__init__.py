"""The detectors, a file an entity. In comes folded text; out go the positions of values, and how far all is settled."""

from __future__ import annotations

from functools import cache

from serving.guard.detector import Detector
from serving.guard.detectors.api_key import CuedKeys, ShapedKeys, age_keys, api_keys
from serving.guard.detectors.basic import BasicCredentials
from serving.guard.detectors.birth_date import BirthDates
from serving.guard.detectors.card import CardNumbers
from serving.guard.detectors.connection import ConnectionStrings
from serving.guard.detectors.cued_number import CuedNumbers
from serving.guard.detectors.domain_name import DomainNames
from serving.guard.detectors.email import EmailAddresses
from serving.guard.detectors.iban import Ibans
from serving.guard.detectors.ip_address import IpAddresses
from serving.guard.detectors.login import LoginPasswords
from serving.guard.detectors.national_id import NationalIds
from serving.guard.detectors.phone import PhoneNumbers
from serving.guard.detectors.phrases import ACCOUNTS, DOCUMENTS, MEDICAL
from serving.guard.detectors.postal_code import PostalCodes
from serving.guard.detectors.private_key import PrivateKeys
from serving.guard.detectors.secret import CuedSecrets, passwords, tokens
from serving.guard.ner import PersonNames, StreetAddresses

__all__ = [
    "BasicCredentials",
    "BirthDates",
    "CardNumbers",
    "ConnectionStrings",
    "CuedKeys",
    "CuedNumbers",
    "CuedSecrets",
    "DomainNames",
    "EmailAddresses",
    "Ibans",
    "IpAddresses",
    "LoginPasswords",
    "NationalIds",
    "PersonNames",
    "PhoneNumbers",
    "PostalCodes",
    "PrivateKeys",
    "ShapedKeys",
    "StreetAddresses",
    "default_detectors",
]


@cache
def default_detectors() -> tuple[Detector, ...]:
    """All detectors. Where values begin at one position, the earlier detector names the mask."""
    return (
        PrivateKeys(),
        age_keys(),
        api_keys(),
        CuedKeys(),
        BasicCredentials(),
        ConnectionStrings(),
        Ibans(),
        CardNumbers(),
        NationalIds(),
        EmailAddresses(),
        PhoneNumbers(),
        CuedNumbers("DOCUMENT_NUMBER", DOCUMENTS),
        CuedNumbers("MEDICAL_NUMBER", MEDICAL),
        CuedNumbers("ACCOUNT_NUMBER", ACCOUNTS),
        LoginPasswords(),
        passwords(),
        tokens(),
        IpAddresses(),
        BirthDates(),
        DomainNames(),
        PostalCodes(),
        StreetAddresses(),
        PersonNames(),
    )
