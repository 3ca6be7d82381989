"""TLS and mTLS to engines, with certificates made here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtests.tools.certificate import Authority
from serving.gateway.engines.build import client_context
from serving.gateway.settings.engines import EngineTlsSettings
from tests.serving.gateway.engines.pools import eventually, pool_settings, running_pool


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "ours"
    folder.mkdir()
    return Authority(folder)


@asynccontextmanager
async def tls_engine(authority: Authority, name: str, asks_for_certificate: bool) -> AsyncIterator[int]:
    """An engine that answers every request with 200 and nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name))
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_an_engines_certificate_must_be_from_the_given_authority(authority: Authority, tmp_path: Path) -> None:
    other = tmp_path / "theirs"
    other.mkdir()
    async with tls_engine(authority, "127.0.0.1", asks_for_certificate=False) as port:
        url = f"https://127.0.0.1:{port}"
        async with running_pool(pool_settings(url, engine_tls={"ca": Authority(other).file})) as (pool, _):
            assert not pool.ready
            pool.apply(pool_settings(url, engine_tls={"ca": authority.file}))
            await eventually(lambda: pool.ready, "the right authority is believed")


async def test_an_engine_that_asks_for_a_certificate_gets_ours(authority: Authority) -> None:
    certificate, key = authority.issue("gateway.test")
    async with tls_engine(authority, "127.0.0.1", asks_for_certificate=True) as port:
        url = f"https://127.0.0.1:{port}"
        async with running_pool(pool_settings(url, engine_tls={"ca": authority.file})) as (pool, _):
            assert not pool.ready
            ours = {"ca": authority.file, "certificate": certificate, "key": key}
            pool.apply(pool_settings(url, engine_tls=ours))
            await eventually(lambda: pool.ready, "our certificate is shown")


async def test_a_name_that_was_looked_up_is_the_one_the_certificate_must_have(authority: Authority) -> None:
    async with tls_engine(authority, "localhost", asks_for_certificate=False) as port:
        tls = {"ca": authority.file}
        found = pool_settings(engine_dns=[f"https://localhost:{port}"], engine_tls=tls)
        async with running_pool(found) as (pool, _):
            await eventually(lambda: pool.ready, "localhost's certificate is taken for its address")
        async with running_pool(pool_settings(f"https://127.0.0.1:{port}", engine_tls=tls)) as (pool, _):
            assert not pool.ready


def test_what_is_wrong_with_the_files_is_one_line(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = authority.issue("gateway.test")
    _, others_key = authority.issue("other.test")
    not_pem = tmp_path / "notes.txt"
    not_pem.write_text("not a certificate")
    for settings, said in (
        (EngineTlsSettings(ca=tmp_path / "none.pem"), "cannot read"),
        (EngineTlsSettings(ca=not_pem), "no certificates in PEM"),
        (EngineTlsSettings(certificate=certificate, key=others_key), "are not a certificate and its key"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            client_context(settings)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="key without a certificate"):
        EngineTlsSettings(key=others_key)


def test_a_renewed_certificate_is_another_context(authority: Authority) -> None:
    settings = EngineTlsSettings(ca=authority.file)
    before = client_context(settings)[1]
    assert client_context(settings)[1] == before
    authority.file.write_bytes(authority.file.read_bytes() * 2)
    assert client_context(settings)[1] != before
