"""The port that the gateway listens on."""

from __future__ import annotations

import socket

from serving.gateway.settings import GatewaySettings


class PortTaken(Exception):
    """The address to listen on cannot be had; `str()` is one line for the user."""


def bind(settings: GatewaySettings) -> list[socket.socket]:
    """Take the port before anything slow happens: one socket for each worker.

    Raises:
        PortTaken: another program has it, or the address is not this machine's.
    """
    first = _bind(settings.host, settings.port, shared=False)
    if settings.workers == 1:
        return [first]
    # Sockets that share a port would share it with a stranger's too: the first one made sure that there is none.
    port = first.getsockname()[1]
    first.close()
    return [_bind(settings.host, port, shared=True) for _ in range(settings.workers)]


def _bind(host: str, port: int, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}. "
            "Stop the program that has the port, or choose another with --port."
        ) from None
    return listener
