"""Where requests are cleaned: small ones on the event loop, large ones in processes that tenants share fairly."""

from serving.gateway.cleaning.cleaner import RequestCleaning
from serving.gateway.cleaning.offload import offload, on_thread

__all__ = ["RequestCleaning", "offload", "on_thread"]
