"""A Redis that listens on TLS only, with a certificate made on the spot and users of little rights."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.servers.redis import RedisServer, free_port

READER, WRITER = "model", "pipeline"
PASSWORD = "p@ss:w/rd"
RIGHTS = {
    READER: ["~feature*", "+mget", "+ping"],
    WRITER: ["~feature*", "+evalsha", "+script|load", "+get", "+getrange", "+set", "+del"],
}


class TlsRedisServer(RedisServer):
    """Needs the operating system's Redis: the one out of the wheel is built without TLS."""

    def __init__(self) -> None:
        super().__init__("redis", tcp=True)

    def start(self) -> None:
        self._certify()
        port = free_port()
        self._options = {
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.folder / "key.pem"),
            "tls-ca-cert-file": str(self.certificate),
            "tls-auth-clients": "no",
        }
        self.address = f"localhost:{port}"
        self.url = f"rediss://{self.address}/0?ssl_ca_certs={self.certificate}&socket_connect_timeout=5"
        super().start()

    def __enter__(self) -> Self:
        super().__enter__()
        with self.client() as client:
            for user, rights in RIGHTS.items():
                client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}", *rights)
        return self

    def url_of(self, user: str, password: str = PASSWORD) -> str:
        return self.url.replace("rediss://", f"rediss://{user}:{quote(password, safe='')}@")

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def _certify(self) -> None:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", self.folder / "key.pem", "-out", self.certificate, "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            ],
            check=True,
            capture_output=True,
        )
