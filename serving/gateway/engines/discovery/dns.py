"""Engines behind one name: every A and AAAA record is one, as a headless Service of Kubernetes has them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

from serving.gateway.engines.address import Address
from serving.gateway.engines.discovery.source import Report

# How often in a row a name must be without addresses before that is believed.
ABSENT_LOOKS = 3
# RFC 3493: there is no such name, or it has no addresses; that the name server cannot be asked is EAI_AGAIN.
_ABSENT = {socket.EAI_NONAME, socket.EAI_NODATA}
# A resolver that does not answer may hold a thread for longer; that look-up counts as failed all the same.
LOOKUP_TIMEOUT_S = 10.0

Lookup = Callable[[str, int], Awaitable[list[str]]]


async def system_lookup(host: str, port: int) -> list[str]:
    """All addresses of `host`, by the system's resolver (hosts file, search domains), in a thread.

    Raises:
        OSError: it has none, or the resolver cannot be asked.
    """
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in infos]


@dataclass(frozen=True)
class DnsSource:
    """Looks the name in `url` up every `interval_s` seconds.

    A name without addresses is what a headless Service has while none of its pods is ready, and what a broken name
    server says of names that it knows: seen `ABSENT_LOOKS` times in a row, engines that do not answer their probes are
    dropped, and the others stay. Any other failure leaves all of them.

    Raises:
        ValueError: `url` is not of the form http://NAME:PORT.
    """

    url: str
    interval_s: float
    lookup: Lookup = system_lookup

    def __post_init__(self) -> None:
        Address.from_url(self.url)

    @property
    def label(self) -> str:
        return f"dns:{Address.from_url(self.url).name}"

    async def run(self, report: Report) -> None:
        parts = urlsplit(Address.from_url(self.url).url)
        host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
        num_absent = 0
        while True:
            try:
                async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                    addresses = await self.lookup(host, port)
            except TimeoutError:
                num_absent = 0
                report.failed(f"no answer within {LOOKUP_TIMEOUT_S:g} s")
            except OSError as error:
                is_absent = isinstance(error, socket.gaierror) and error.errno in _ABSENT
                num_absent = num_absent + 1 if is_absent else 0
                if num_absent >= ABSENT_LOOKS:
                    report.absent()
                else:
                    report.failed(error.strerror or str(error))
            else:
                num_absent = 0
                # Resolvers turn the order round from answer to answer.
                report.found([_engine_at(address, parts, port) for address in sorted(set(addresses))])
            await asyncio.sleep(self.interval_s)


def _engine_at(address: str, named: SplitResult, port: int) -> Address:
    is_v6 = ipaddress.ip_address(address.partition("%")[0]).version == 6
    authority = f"[{address}]:{port}" if is_v6 else f"{address}:{port}"
    url = urlunsplit((named.scheme, authority, named.path, "", ""))
    return Address(url, authority + named.path, server_name=named.hostname)
