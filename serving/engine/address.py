"""Where servers listen, and whether they can."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from serving.engine.errors import PortTaken


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """What a process on this machine connects to."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        """The base URL for a process on this machine."""
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def require_free(host: str, port: int, option: str) -> None:
    """Raise PortTaken unless `host:port` can be listened on; `option` is where the user chooses another."""
    try:
        _bind(host, port).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PortTaken(
            f"cannot listen on {host}:{port}: {reason}. "
            f"Stop the program that has the port, or choose another with {option}"
        ) from None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now. Another program may take it before we do: rare, and then named as taken."""
    with _bind(host, 0) as listener:
        return int(listener.getsockname()[1])


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: connections in TIME_WAIT do not make a port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)
    except BaseException:
        listener.close()
        raise
    return listener
