"""Where the online store is: the URL of a single server, a cluster, or a service that Sentinel watches.

    redis://[user:password@]host:6379/0                          rediss:// for TLS
    unix://[user:password@]/path/to.sock
    redis+cluster://[user:password@]host:7000,host:7001          rediss+cluster:// for TLS
    redis+sentinel://[user:password@]host:26379,host/service/0   rediss+sentinel:// for TLS

Everything is read here once; connections are made elsewhere. Of a malformed URL nothing is shown that may be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from redis import RedisError
from redis import connection as library

from feature_store.errors import SettingsError
from feature_store.setting_urls import ONLINE, UnusableUrlError, check_port, check_told_apart, malformed

Kind = Literal["server", "cluster", "sentinel"]

_PORTS: Mapping[Kind, int] = {"server": 6379, "cluster": 6379, "sentinel": 26379}
_OF_SENTINEL = ("sentinel_username", "sentinel_password")
_REMEDY = (
    "Write redis://user:password@host:6379/0, rediss:// for TLS, unix:///path/to.sock, "
    "redis+cluster://host:7000,host:7001 or redis+sentinel://host:26379,host:26379/service/0, with special characters "
    "of the password percent-encoded."
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where the online store is, and how to connect there.

    Attributes:
        kind: A single server, a cluster, or a service watched by Sentinel.
        url: URL of a single server, as redis-py reads it; empty otherwise.
        nodes: Host and port of some nodes of the cluster, or of the Sentinels.
        options: Options of each connection, as redis-py names them.
        sentinel_options: The same of connections to Sentinels.
        service: Name of the service that the Sentinels watch.
        address: What messages call it: hosts and ports, or the path of a socket. Never a secret.
    """

    kind: Kind
    url: str
    nodes: tuple[tuple[str, int], ...]
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]
    service: str
    address: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """Reads a URL.

        Raises:
            SettingsError: If it is malformed, or asks for what the store cannot work with.
        """
        try:
            location = _parse(url)
            # Options are only looked at when a connection is made: make one now, unconnected, to refuse unknown ones.
            plain = dict(location.options)
            plain.pop("max_connections", None)
            kind = library.SSLConnection if plain.pop("ssl", False) else library.Connection
            plain.pop("connection_class", kind)(**plain)
        except (TypeError, ValueError, RedisError) as error:
            # The reasons of the libraries may quote the URL, and with it a password.
            reason = (
                str(error) if isinstance(error, UnusableUrlError) else "it cannot be read, or has an unknown option"
            )
            raise malformed(ONLINE, url, "the URL of a Redis server", reason, _REMEDY) from None
        if location.options.get("decode_responses"):
            raise SettingsError("FEATURE_STORE_ONLINE must not set decode_responses: values are read as bytes.")
        return location


def _parse(url: str) -> Location:
    parts = urlsplit(url)
    check_told_apart(parts)
    scheme, plus, kind = parts.scheme.partition("+")
    if not plus:
        _check_server(scheme, parts)
        options = _options(url)
        address = options.get("path") or f"{options['host']}:{options.get('port', 6379)}"
        return Location("server", url, (), options, {}, "", address)
    if kind not in {"cluster", "sentinel"} or scheme not in {"redis", "rediss"}:
        raise UnusableUrlError("the scheme is unknown")
    of: Kind = "cluster" if kind == "cluster" else "sentinel"
    user, at, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_node(text, _PORTS[of]) for text in hosts.split(","))
    service, database = "", parts.path.strip("/")
    if of == "sentinel":
        service, _, database = database.partition("/")
    if of == "cluster" and database not in {"", "0"}:
        raise UnusableUrlError("a cluster has one database, 0")
    if of == "sentinel" and not service:
        raise UnusableUrlError("it names no service")
    _check_database(database)
    # The rest means what it means for a single server.
    options = _options(f"{scheme}://{user}{at}host/{int(database or 0)}?{parts.query}")
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    if of == "cluster":
        options.pop("db", None)
    tls = {"ssl": True} if scheme == "rediss" else {}
    sentinel_options = {
        name.removeprefix("sentinel_"): options.pop(name) for name in _OF_SENTINEL if name in options
    } | {name: value for name, value in options.items() if name.startswith("ssl_")}
    address = ",".join(f"{host}:{port}" for host, port in nodes)
    return Location(of, "", nodes, options | tls, sentinel_options | tls, service, f"{address}/{service}".rstrip("/"))


def _check_server(scheme: str, parts: SplitResult) -> None:
    if scheme not in {"redis", "rediss", "unix"}:
        raise UnusableUrlError("the scheme is unknown")
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise UnusableUrlError("it names no socket")
        return
    if not parts.hostname:
        raise UnusableUrlError("it names no host")
    # The library would take what is no number for none at all.
    _node(parts.netloc.rpartition("@")[2], _PORTS["server"])
    _check_database(parts.path.strip("/"))


def _check_database(text: str) -> None:
    if text and not (text.isascii() and text.isdigit()):
        raise UnusableUrlError("the database is no number")


def _options(url: str) -> dict[str, Any]:
    parse: Any = library.parse_url
    options: dict[str, Any] = parse(url)
    return options


def _node(text: str, port: int) -> tuple[str, int]:
    host, colon, given = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, given = text, ""
    if not host:
        raise UnusableUrlError("it names no host")
    check_port(given)
    return host.strip("[]"), int(given or port)
