"""Name resolution of the pods: their DNS policy, and network policies that let no question to the DNS servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from serving.doctor.cluster.api import COMPONENT, ClusterApi, Object, labels_of, name_of
from serving.doctor.cluster.selectors import selects
from serving.doctor.finding import Finding, NotChecked, error

_WHY = "engines, database and Redis are found by name: gateways answer 503, and downloads fail"


@dataclass(frozen=True, slots=True)
class DnsServers:
    """The pods that resolve names. `ports` are the pods' own: a policy sees those, not the Service's 53."""

    namespace: str
    labels: Mapping[str, str]
    ports: frozenset[int]
    addresses: tuple[str, ...] = ()


_KNOWN = (
    DnsServers("kube-system", {"k8s-app": "kube-dns"}, frozenset({53})),
    DnsServers("openshift-dns", {"dns.operator.openshift.io/daemonset-dns": "default"}, frozenset({5353})),
)


def check_network(api: ClusterApi) -> Iterator[Finding]:
    """DNS policies of pods, and egress rules that leave DNS out."""
    for pod in api.pods:
        yield from _dns_policy(pod)
    policies = api.items("networkpolicies", "apis/networking.k8s.io/v1")
    servers = _dns_servers(api) if policies else ()
    told: set[str] = set()
    for pod in api.pods:
        labels = labels_of(pod)
        restricting = [policy for policy in policies if _restricts_egress(policy, labels)]
        component = labels.get(COMPONENT, name_of(pod))
        rules = [rule for policy in restricting for rule in policy["spec"].get("egress") or ()]
        if restricting and component not in told and not any(_lets_through(rule, servers) for rule in rules):
            told.add(component)
            names = ", ".join(name_of(policy) for policy in restricting)
            ports = "/".join(str(port) for port in sorted({port for server in servers for port in server.ports}))
            yield error(
                f"the network policies of {component} pods ({names}) let no question through to the DNS servers",
                _WHY,
                f"allow egress on UDP and TCP port {ports} to {' or '.join(server.namespace for server in servers)}: "
                "networkPolicy.dns and networkPolicy.dnsPorts in the values",
            )


def _dns_policy(pod: Object) -> Iterator[Finding]:
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    on_host = bool(spec.get("hostNetwork")) and policy == "ClusterFirst"
    if policy == "Default" or on_host:
        how = "hostNetwork with dnsPolicy ClusterFirst" if on_host else f"dnsPolicy {policy}"
        yield error(
            f"pod {name_of(pod)} asks the node's DNS servers, not the cluster's ({how})",
            _WHY,
            "set dnsPolicy to ClusterFirstWithHostNet" if on_host else "set dnsPolicy to ClusterFirst",
        )


def _dns_servers(api: ClusterApi) -> Sequence[DnsServers]:
    """Those of this cluster, as far as these credentials show them."""
    seen = []
    for servers in _KNOWN:
        selector = ",".join(f"{name}={value}" for name, value in servers.labels.items())
        try:
            listed = api.get(f"/api/v1/namespaces/{servers.namespace}/pods", labelSelector=selector)
        except NotChecked:
            return _KNOWN
        pods = listed["items"] if listed is not None else ()
        if pods:
            ports = {
                port["containerPort"]
                for pod in pods
                for container in pod["spec"]["containers"]
                for port in container.get("ports") or ()
                if port.get("protocol") == "UDP"
            }
            addresses = tuple(pod["status"]["podIP"] for pod in pods if (pod.get("status") or {}).get("podIP"))
            seen.append(DnsServers(servers.namespace, servers.labels, frozenset(ports) or servers.ports, addresses))
    return seen or _KNOWN


def _restricts_egress(policy: Object, labels: Mapping[str, str]) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return "Egress" in types and selects(spec.get("podSelector") or {}, labels)


def _lets_through(rule: Mapping[str, Any], servers: Sequence[DnsServers]) -> bool:
    return any(_opens_port(rule, server) and _opens_peer(rule, server) for server in servers)


def _opens_port(rule: Mapping[str, Any], server: DnsServers) -> bool:
    ports = rule.get("ports")
    if not ports:
        return True
    return any(_covers(port, wanted) for port in ports if port.get("protocol") == "UDP" for wanted in server.ports)


def _covers(port: Mapping[str, Any], wanted: int) -> bool:
    number = port.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        return "dns" in number
    return int(number) <= wanted <= int(port.get("endPort") or number)


def _opens_peer(rule: Mapping[str, Any], server: DnsServers) -> bool:
    peers = rule.get("to")
    return not peers or any(_is_peer(peer, server) for peer in peers)


def _is_peer(peer: Mapping[str, Any], server: DnsServers) -> bool:
    if block := peer.get("ipBlock"):
        inside = [address for address in server.addresses if ip_address(address) in ip_network(block["cidr"])]
        kept_out = [ip_network(cidr) for cidr in block.get("except") or ()]
        return not server.addresses or any(
            not any(ip_address(address) in network for network in kept_out) for address in inside
        )
    if "namespaceSelector" not in peer:
        return False  # pods of the policy's own namespace
    namespace_labels = {"kubernetes.io/metadata.name": server.namespace}
    return selects(peer["namespaceSelector"], namespace_labels) and selects(
        peer.get("podSelector") or {}, server.labels
    )
