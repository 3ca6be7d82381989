"""The durable record of requests, usage and administrative actions.

In come `UsageRecord`s, one for each answer; out goes the promise that a record is on disk before the client
sees the end of its answer. The `requests` table is read by others (drift, exports) with their own SELECT.
"""

from serving.ledger.anchors import AnchorPublisher
from serving.ledger.ledger import Ledger
from serving.ledger.prices import ModelPrice, PriceList
from serving.ledger.record import UsageRecord
from serving.ledger.settings import LedgerSettings
from serving.ledger.writer import LedgerUnavailable, RecordRefused

__all__ = [
    "AnchorPublisher",
    "Ledger",
    "LedgerSettings",
    "LedgerUnavailable",
    "ModelPrice",
    "PriceList",
    "RecordRefused",
    "UsageRecord",
]
