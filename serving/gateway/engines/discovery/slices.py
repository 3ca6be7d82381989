"""EndpointSlices of Kubernetes (`discovery.k8s.io/v1`) to the addresses of engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from serving.gateway.engines.address import Address


def addresses_in(
    slices: Iterable[Mapping[str, Any]], *, port: int | str | None, scheme: str, server_name: str | None
) -> list[Address]:
    """Every endpoint that is ready, or is terminating and so drains.

    A pod may be in several slices, in one for each IP family and while slices are rebuilt: it is one engine. Its name
    is POD.NAMESPACE:PORT, or the address where no pod stands behind it. `port` is a number or a port's name; None
    takes the first.
    """
    addresses: dict[str, Address] = {}
    for endpoint_slice in sorted(
        slices,
        key=lambda endpoint_slice: (endpoint_slice.get("addressType") != "IPv4", endpoint_slice["metadata"]["name"]),
    ):
        number = _port_number(endpoint_slice.get("ports") or (), port)
        if number is None:
            continue
        for endpoint in endpoint_slice.get("endpoints") or ():
            address = _address(endpoint, endpoint_slice, number, scheme, server_name)
            if address is not None:
                addresses.setdefault(address.name, address)
    return sorted(addresses.values(), key=lambda address: address.name)


def _address(
    endpoint: Mapping[str, Any], endpoint_slice: Mapping[str, Any], port: int, scheme: str, server_name: str | None
) -> Address | None:
    conditions = endpoint.get("conditions") or {}
    terminating = bool(conditions.get("terminating"))
    # Absent means yes, says the API. A terminating pod is never ready, but serves while `serving`.
    if not terminating and conditions.get("ready") is False:
        return None
    if not endpoint.get("addresses"):
        return None
    # The API asks clients to use the first address; each endpoint has one.
    host = str(endpoint["addresses"][0])
    if endpoint_slice.get("addressType") == "IPv6":
        host = f"[{host}]"
    target = endpoint.get("targetRef") or {}
    namespace = target.get("namespace") or endpoint_slice["metadata"].get("namespace", "default")
    is_pod = target.get("kind") == "Pod" and target.get("name")
    name = f"{target['name']}.{namespace}:{port}" if is_pod else f"{host}:{port}"
    return Address(f"{scheme}://{host}:{port}", name, server_name=server_name, draining=terminating)


def _port_number(ports: Iterable[Mapping[str, Any]], wanted: int | str | None) -> int | None:
    if isinstance(wanted, int):
        return wanted
    for candidate in ports:
        if candidate.get("port") and (wanted is None or candidate.get("name") == wanted):
            return int(candidate["port"])
    return None
