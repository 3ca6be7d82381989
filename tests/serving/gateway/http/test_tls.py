"""TLS, with certificates of clients."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from serving.gateway.http.server import Server
from serving.gateway.http.settings import HttpSettings, TlsSettings
from tests.serving.gateway.http.served import (
    Application,
    answer,
    get,
    serving,
)


def gets_anything(client: ssl.SSLSocket) -> bool:
    try:
        return bool(client.recv(10))
    except (ssl.SSLError, ConnectionError):
        return False


def test_tls_with_client_certificates(tmp_path: Path, certificates: dict[str, Path]) -> None:
    tls = TlsSettings(certificate=certificates["server"], key=certificates["server_key"], client_ca=certificates["ca"])
    context = ssl.create_default_context(cafile=str(certificates["ca"]))
    with serving(tls=tls) as served:
        with served.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(get())
            assert not gets_anything(client)
        context.load_cert_chain(certificates["client"], certificates["client_key"])
        with served.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(get())
            assert json.loads(answer(client)[2])["scheme"] == "https"
            client.sendall(get("/stream"))
            assert answer(client)[2].endswith(b"piece 4\n")


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"cert\.pem"):
        Server(
            Application(),
            HttpSettings(),
            max_body_bytes=1,
            tls=TlsSettings(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"),
        )
