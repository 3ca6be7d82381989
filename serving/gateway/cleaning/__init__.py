"""Where requests are cleaned: small ones on the event loop, large ones in processes that tenants take in turn."""

from serving.gateway.cleaning.apart import apart, on_thread
from serving.gateway.cleaning.cleaner import RequestCleaning

__all__ = ["RequestCleaning", "apart", "on_thread"]
