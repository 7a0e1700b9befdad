"""Where deliveries may go: no address inside the network, by whatever name or notation (server-side request forgery)."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.review.webhooks import sending
from cognify_dagster.review.webhooks.address import AddressRefused, parse_target, refusal, resolve
from cognify_dagster.review.webhooks.sending import SendError, post
from tests.review.webhooks.receiver import Receiver, dns, raw_server

INSIDE = [
    "127.0.0.1", "127.255.1.2", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "::1", "fc00::1", "fd12::1", "fec0::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:0a00:0001::1", "64:ff9b::a00:1", "::127.0.0.1",
    "192.0.2.1", "198.18.0.1", "2001:db8::1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "100.100.100.200", "168.63.129.16",
    "fe80::1", "::", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::",
]  # fmt: skip
OUTSIDE = ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_inside_is_refused_unless_it_was_allowed(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert "--allow-private" in refusal(address, allow_private=False)
    assert refusal(address, allow_private=True) == ""


@pytest.mark.parametrize("text", NEVER)
def test_some_addresses_are_never_allowed(text: str) -> None:
    for allowed in (False, True):
        assert "nothing is sent there" in refusal(ipaddress.ip_address(text), allow_private=allowed)


@pytest.mark.parametrize("text", OUTSIDE)
def test_the_internet_is_allowed(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), allow_private=False) == ""


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_clothes_is_judged_as_itself(inner: ipaddress.IPv4Address) -> None:
    for outer in (
        f"::ffff:{inner}",
        str(ipaddress.IPv6Address((0x0064FF9B << 96) | int(inner))),
        str(ipaddress.IPv6Address((0x2002 << 112) | (int(inner) << 80))),
    ):
        for allowed in (False, True):
            assert refusal(ipaddress.ip_address(outer), allow_private=allowed) == refusal(inner, allow_private=allowed)


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "[::1]", "[::ffff:7f00:1]"]
)
def test_other_notations_of_this_machine_are_refused(host: str) -> None:
    target = parse_target(f"https://{host}/")
    try:
        found = resolve(target)
    except (AddressRefused, OSError):
        return
    pytest.fail(f"{host} became {found}")


def test_a_name_with_one_address_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", dns("93.184.215.14", "10.0.0.5"))
    with pytest.raises(AddressRefused, match=r"at 10\.0\.0\.5, inside this network"):
        post("https://grc.example/", b"{}", {})


def test_the_connection_goes_to_the_address_that_was_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to something else the second time (DNS rebinding) gains nothing: it is asked once."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object):
        asked.append(host)
        return dns("127.0.0.1")(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", _once_for_names(getaddrinfo))
    answer = post(f"http://grc.example:{receiver.port}/x", b"{}", {}, allow_private=True, allow_http=True)
    assert answer.accepted
    assert asked == ["grc.example"]
    assert receiver.got[0].headers["host"] == f"grc.example:{receiver.port}"


def _once_for_names(fake):
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: object, **names: object):
        if host.endswith(".example"):
            return fake(host, *args, **names)
        ipaddress.ip_address(host)  # only addresses may be asked for besides
        return real(host, *args, **names)

    return getaddrinfo


def test_a_redirect_into_the_network_is_not_followed(receiver: Receiver) -> None:
    receiver.answer(302, Location="http://169.254.169.254/latest/meta-data/")
    answer = post(receiver.url, b"{}", {}, allow_private=True, allow_http=True)
    assert answer.status == 302
    assert not answer.accepted
    assert len(receiver.got) == 1


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(receiver.url, b"{}", {}, allow_private=True, allow_http=True).accepted


@pytest.mark.parametrize("pause", [0.05, 60], ids=["drop by drop", "not at all"])
def test_an_answer_that_does_not_end_costs_only_the_time_allowed(pause: float) -> None:
    def slowly(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.settimeout(min(pause, 2))
        end = time.monotonic() + 4
        while time.monotonic() < end:
            if pause < 1:
                peer.sendall(b"H")
                time.sleep(pause)
            elif not peer.recv(1):
                return

    with raw_server(slowly) as port:
        began = time.monotonic()
        with pytest.raises(SendError, match="no answer within"):
            post(f"http://127.0.0.1:{port}/", b"{}", {}, allow_private=True, allow_http=True, timeout_s=0.5)
        assert time.monotonic() - began < 2


def test_of_a_long_answer_only_the_beginning_is_read() -> None:
    sent = 0

    def flood(peer: socket.socket) -> None:
        nonlocal sent
        peer.recv(65_536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            sent += peer.send(b"x" * 65_536)

    with raw_server(flood) as port:
        assert post(f"http://127.0.0.1:{port}/", b"{}", {}, allow_private=True, allow_http=True).accepted
        time.sleep(0.2)
    assert sent < 50_000_000


def test_a_certificate_that_is_not_trusted_ends_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as secured:
            secured.recv(65_536)
            secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    monkeypatch.setattr(socket, "getaddrinfo", _once_for_names(dns("127.0.0.1")))
    with raw_server(serve) as port:
        with pytest.raises(SendError, match="certificate does not verify"):
            post(f"https://grc.example:{port}/", b"{}", {}, allow_private=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert post(f"https://grc.example:{port}/", b"{}", {}, allow_private=True).status == 204
        with pytest.raises(SendError, match="certificate does not verify"):
            post(f"https://other.example:{port}/", b"{}", {}, allow_private=True)


def _certificate(folder):
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "grc.example")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("grc.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "server.crt", folder / "server.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


def test_the_time_allowed_is_short() -> None:
    assert sending.TIMEOUT_S <= 10
