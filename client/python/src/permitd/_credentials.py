"""How a server proves to this client who it is, and this client to the server. What stands in files is read anew for every
connection, so that certificates and tokens can be renewed under a running client. Nothing here shows a secret."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union
from urllib.parse import urlsplit

import grpc

from . import _errors as errors

#: What a certificate in PEM begins with.
PEM_HEAD = b"-----BEGIN CERTIFICATE-----"
#: Where a server listens that nobody told otherwise.
PORT_DEFAULT = 7110


@dataclass(frozen=True)
class Tls:
    """What TLS takes: whom to trust (``ca``; gRPC's own authorities without it), and what to show (``certificate`` with its
    ``key``). A ``Path`` is a file, which is read anew for every connection; ``bytes`` are PEM. ``server_name`` is the name
    that the server's certificate has to have; without it, the host of the endpoint."""

    ca: Union[Path, bytes, None] = None
    certificate: Union[Path, bytes, None] = None
    key: Union[Path, bytes, None] = field(default=None, repr=False)
    server_name: Optional[str] = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For one connection."""
        ca = _read("tls.ca", self.ca)
        if ca is not None and PEM_HEAD not in ca:
            raise errors.invalid("tls.ca", "has no certificate in PEM")
        if (self.certificate is None) != (self.key is None):
            raise errors.invalid("tls.certificate", "goes with tls.key: give both or neither")
        certificate, key = _read("tls.certificate", self.certificate), _read("tls.key", self.key)
        return grpc.ssl_channel_credentials(ca, key, certificate)


@dataclass(frozen=True)
class Endpoint:
    """One server."""

    #: As the user wrote it, with a scheme.
    text: str
    host: str
    port: int
    is_secure: bool

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """From ``http://HOST:PORT``, ``https://HOST:PORT`` or ``HOST:PORT``."""
        address = text if isinstance(text, str) and "://" in text else f"http://{text}"
        try:
            parts = urlsplit(address)
            port = parts.port or PORT_DEFAULT
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise errors.invalid("endpoints", f"{text!r} is no address; write http://HOST:PORT")
        return cls(address, parts.hostname, port, parts.scheme == "https")

    @property
    def target(self) -> str:
        """As gRPC takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host can only be this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class Credentials:
    """What a client shows and wants to be shown."""

    tls: Optional[Tls]
    token: Union[str, Path, None] = field(repr=False)
    #: Whether the token may go to other machines in the clear.
    insecure: bool

    def check(self, endpoint: Endpoint) -> None:
        """Refuses what would not keep a secret, and files that can't be read."""
        if endpoint.is_secure:
            (self.tls or Tls()).credentials()
        elif self.tls is not None:
            raise errors.invalid("endpoints", f"{endpoint.text} is served in the clear; write https:// for TLS")
        elif self.token is not None and not self.insecure and not endpoint.is_loopback:
            raise errors.invalid(
                "token", f"would be sent in the clear to {endpoint.text}; use https://, or say that it may (insecure)"
            )
        self.metadata()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with the stream."""
        if self.token is None:
            return ()
        text = self.token if isinstance(self.token, str) else (_read("token", self.token) or b"").decode(errors="replace")
        text = text.strip()
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise errors.invalid("token", "is empty, or has characters that no token has")
        return (("authorization", f"Bearer {text}"),)


def _read(name: str, source: Union[Path, bytes, str, None]) -> Optional[bytes]:
    if source is None or isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise errors.invalid(name, f"can't read {source}: {error.strerror or error}") from None
