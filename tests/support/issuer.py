"""A real token issuer on a port of its own: discovery, keys over HTTP, rotation, failure."""

from __future__ import annotations

import json
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_FORM = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}


def make_certificate(file: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return file


class Issuer:
    """Signs tokens and publishes the public keys at `url`. `requests` lists the paths asked for."""

    def __init__(self, certificate: Path | None = None) -> None:
        """`certificate`: a PEM file with certificate and key, to serve by https."""
        self.requests: list[str] = []
        self.failing = False
        self.published: list[dict[str, Any]] = []
        self.discovery: dict[str, Any] = {}
        self._private: dict[str, tuple[PrivateKey, str]] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                document = issuer._document(self.path)
                self.send_response(500 if issuer.failing else 200 if document else 302)
                self.send_header("location", issuer.url + "/jwks")
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self.discovery = {"issuer": self.url, "jwks_uri": self.url + "/jwks"}

    def add_key(self, key_id: str, algorithm: str = "RS256", publish: bool = True, **more: Any) -> None:
        """Make a key and, unless told otherwise, publish it."""
        private: PrivateKey
        if algorithm.startswith("ES"):
            private = ec.generate_private_key(ec.SECP256R1())
        elif algorithm == "EdDSA":
            private = ed25519.Ed25519PrivateKey.generate()
        else:
            private = rsa.generate_private_key(65537, 2048)
        self._private[key_id] = (private, algorithm)
        form: Any = _FORM[algorithm[:2]]
        jwk = json.loads(form.to_jwk(private.public_key()))
        jwk = {name: value for name, value in jwk.items() if name != "key_ops"}
        if publish:
            self.published.append({**jwk, "kid": key_id, "use": "sig", "alg": algorithm, **more})

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Of a good token; a change to None leaves a claim out."""
        good = {
            "iss": self.url,
            "aud": "signet",
            "sub": "ada@example.com",
            "tenant": "acme",
            "iat": int(time.time()),
            "exp": int(time.time()) + 300,
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(self, key_id: str = "one", headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token signed with this key; a header of None is left out."""
        private, algorithm = self._private[key_id]
        wanted = {"kid": key_id, **(headers or {})}
        kept = {name: value for name, value in wanted.items() if value is not None}
        return jwt.encode(self.claims(**changes), private, algorithm, headers=kept)

    def public_pem(self, key_id: str) -> bytes:
        """What everybody may know of a key, as OpenSSL writes it."""
        return (
            self._private[key_id][0]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _document(self, path: str) -> dict[str, Any] | None:
        if path == "/.well-known/openid-configuration":
            return self.discovery
        return {"keys": self.published} if path == "/jwks" else None
