"""Redis behind TLS: a node, `check` and clients, with certificates made for the test."""

from __future__ import annotations

import datetime
import ipaddress
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis

from tests.support.node import StartNode
from tests.support.processes import absent, free_port
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import open_client

Name = Callable[[str], str]


def _certificate(
    directory: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for 127.0.0.1, or of an authority where nobody issues it; writes `name`.crt and .key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, key


class _TlsRedis(RedisProcess):
    """Also listens on `tls_port`, with TLS."""

    def __init__(self, directory: Path) -> None:
        self.tls_port = free_port()
        self.directory = directory
        super().__init__(
            options={
                "--tls-port": str(self.tls_port),
                "--tls-cert-file": str(directory / "server.crt"),
                "--tls-key-file": str(directory / "server.key"),
                "--tls-ca-cert-file": str(directory / "authority.crt"),
                "--tls-auth-clients": "no",
            }
        )

    def tls_url(self, host: str = "127.0.0.1", authority: str = "authority") -> str:
        return f"rediss://{host}:{self.tls_port}/0?ssl_ca_certs={self.directory / authority}.crt"


@pytest.fixture(scope="module")
def tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_TlsRedis]:
    directory = tmp_path_factory.mktemp("tls")
    _certificate(directory, "server", _certificate(directory, "authority", None))
    _certificate(directory, "stranger", None)
    with _TlsRedis(directory) as process:
        try:
            process.start()
        except AssertionError as exc:
            if "tls" not in str(exc).lower():
                raise
            absent("a redis-server with TLS", str(exc))
        yield process


@pytest_asyncio.fixture
async def redis(tls_redis: _TlsRedis) -> AsyncIterator[Redis]:
    async with Redis.from_url(tls_redis.tls_url(), socket_timeout=5) as client:
        yield client


def _check(url: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "service", "check"],
        env={**os.environ, "STREAMGATE_REDIS__URL": url},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


async def test_publish_subscribe_and_a_lost_connection(
    tls_redis: _TlsRedis, redis: Redis, start_node: StartNode, name: Name
) -> None:
    """More than one TLS record's worth, in order; and on after all connections were cut."""
    node = await start_node(tls_redis.tls_url())
    channel = name("chat")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await client.call("publish", channel=channel, data="first")
        assert await client.next_data(channel) == "first"
        pipeline = redis.pipeline(transaction=False)
        for number in range(2000):
            pipeline.xadd(channel, {"data": f'{{"number":{number},"text":"{"y" * 100}"}}'})
        await pipeline.execute()
        for number in range(2000):
            assert (await client.next_data(channel))["number"] == number
        await redis.client_kill_filter(_type="normal", skipme=True)
        await redis.xadd(channel, {"data": '"after"'})
        assert await client.next_data(channel) == "after"


def test_check(tls_redis: _TlsRedis) -> None:
    """All is well; or what is wrong with the certificate, in words."""
    status, said = _check(tls_redis.tls_url())
    assert (status, "answers" in said) == (0, True), said
    status, said = _check(tls_redis.tls_url(authority="stranger"))
    assert status != 0
    assert "its certificate is not trusted" in said
    status, said = _check(tls_redis.tls_url(host="localhost"))
    assert status != 0
    assert "certificate is not valid for 'localhost'" in said
    status, said = _check(tls_redis.tls_url(authority="nowhere"))
    assert status != 0
    assert "nowhere.crt" in said
