"""Settings of the gateway: one tree, and a module for each part of it that has settings of its own."""

from serving.gateway.settings.gateway import GatewaySettings, ReceiptSettings

__all__ = ["GatewaySettings", "ReceiptSettings"]
