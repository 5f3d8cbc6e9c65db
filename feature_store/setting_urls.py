"""URLs in settings: one check for each kind, made when a store is opened and not at its first use.

Only the text is looked at: nothing connects, and no driver is imported. Messages show the value, but never what is or
could be a secret in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from feature_store.errors import SettingsError

# Up to the last @, and with no scheme too: a malformed URL must not show what would be a password in a good one.
_CREDENTIALS = re.compile(r"^(?P<scheme>[a-z0-9+]+://)?.*@", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(r"(?<==)[^&]*")
_PORT = re.compile(r":(?P<port>[^:/?#\[\]@,]*)(?=[,/?#]|$)")
_GREATEST_PORT = 65_535
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECRET_OPTION = re.compile("pass|secret|token|key|credential", re.IGNORECASE)
_SIGNS = re.compile(r"[@:/?#%&=\[\],;\s]")
_SHORTEST_MASKED = 4
"""Shorter parts of a password are in too many words to be replaced there."""

ONLINE = "FEATURE_STORE_ONLINE"
REGISTRY = "FEATURE_STORE_REGISTRY"
KAFKA = "FEATURE_STORE_KAFKA"

_POSTGRESQL_REMEDY = (
    "Write postgresql://user:password@host:5432/database, with special characters of user and password "
    "percent-encoded: %40 for @, %2F for /, %3A for :, %23 for #, %3F for ?, %25 for %."
)
_REGISTRY_REMEDY = "Write sqlite:////path/to/registry.db or postgresql://user:password@host:5432/database."
_POSTGRESQL_SCHEMES = frozenset({"postgres", "postgresql"})
_REGISTRY_SCHEMES = _POSTGRESQL_SCHEMES | {"postgresql+psycopg", "postgresql+psycopg2"}
_SQLITE_SCHEMES = frozenset({"sqlite", "sqlite+pysqlite"})


class UnusableUrlError(ValueError):
    """Something is wrong with a URL. The message says what, and quotes nothing of it."""


def masked(url: str) -> str:
    """Returns a URL for messages: without user, password, values of options, and ports that are no numbers."""
    place, question, query = url.partition("?")
    if "@" in query:
        # A question mark in a password that was not encoded: all before the last @ may belong to it.
        place, question, query = url, "", ""
    place = _CREDENTIALS.sub(lambda found: f"{found['scheme'] or ''}***@", place)
    scheme, separator, rest = place.rpartition("://")
    if not rest.startswith("/"):
        rest = _PORT.sub(lambda found: f":{found['port'] if _is_number(found['port']) else '***'}", rest)
    return f"{scheme}{separator}{rest}{question}{_OPTION.sub('***', query)}"


def malformed(setting: str, url: str, what: str, reason: str, remedy: str) -> SettingsError:
    """Returns the error of a malformed URL.

    Args:
        setting: The name of the setting.
        url: Its value.
        what: What it should be.
        reason: What is wrong with it.
        remedy: What to write.
    """
    # Where a URL is malformed, what looks like the name of an option, or like a path, may be a part of a password.
    place, question, _ = masked(url).partition("?")
    scheme, separator, rest = place.partition("://")
    place = f"{scheme}{separator}/***" if rest.startswith("/") else place
    shown = f"{place}?***" if question else place
    return SettingsError(f"{setting} is not {what}, got {shown!r}: {reason}. {remedy}")


def check_port(text: str | None) -> None:
    """Checks a port: None or empty for none, else a number from 1 to 65,535.

    Raises:
        UnusableUrlError: If it is something else.
    """
    if text and not (_is_number(text) and 1 <= int(text) <= _GREATEST_PORT):
        raise UnusableUrlError("the port is no number from 1 to 65535")


def check_registry_url(url: str) -> None:
    """Checks the URL of a registry.

    Raises:
        SettingsError: If it is malformed, or names another kind of database.
    """

    def refused(reason: str) -> SettingsError:
        return malformed(REGISTRY, url, "a database URL", reason, _REGISTRY_REMEDY)

    scheme, separator, rest = url.partition("://")
    if not separator:
        raise refused("it begins with no scheme")
    if scheme in _SQLITE_SCHEMES:
        path = rest.partition("?")[0]
        if not path.startswith("/") or path[1:] in {"", ":memory:"} or path[1:].startswith("file:"):
            raise refused("it names no file, and a registry in memory would be gone with its connection")
        return
    if scheme not in _REGISTRY_SCHEMES:
        raise refused(f"it names {scheme!r}, and a registry is on SQLite or PostgreSQL")
    _check_postgresql(rest, refused)


def check_postgresql_url(setting: str, url: str) -> None:
    """Checks the URL of a PostgreSQL database: each part of it can be told from the others.

    Args:
        setting: The name of the setting that holds it.
        url: The URL.

    Raises:
        SettingsError: If it is malformed: before a driver would take a part of a password for a host, and show it.
    """

    def refused(reason: str) -> SettingsError:
        return malformed(setting, url, "a PostgreSQL URL", reason, _POSTGRESQL_REMEDY)

    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _POSTGRESQL_SCHEMES:
        raise refused("it does not begin with postgresql://")
    _check_postgresql(rest, refused)


def _check_postgresql(rest: str, refused: Callable[[str], SettingsError]) -> None:
    reason = None
    try:
        parts = urlsplit(f"postgresql://{rest}")
        _check_address(parts.netloc)
        check_told_apart(parts)
        if _BAD_ESCAPE.search(rest):
            reason = "it has a % that is followed by no two hexadecimal digits"
    except UnusableUrlError as error:
        reason = str(error)
    except ValueError:
        # The library's own reasons may quote the URL.
        reason = "its host cannot be read"
    if reason is not None:
        raise refused(reason)


def check_told_apart(parts: SplitResult) -> None:
    """Checks that no part of a URL is that of a password with a sign in it that was not encoded.

    Raises:
        UnusableUrlError: If it could be: the host would be a part of the password, and shown in errors.
    """
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise UnusableUrlError("it has an @ after its address: write @, /, ? and # in user and password encoded")
    if parts.fragment:
        raise UnusableUrlError("it has a #, which has no meaning in it")


def without_secrets(text: str, *urls: str) -> str:
    """Returns the text of a library's error without what could be a secret of some URLs.

    Libraries quote what they were given, whole, in parts, decoded or not. A text that holds a password too short to be
    told from other words is not shown at all.

    Args:
        text: The text.
        urls: What may be quoted in it; texts that are no URLs are secrets as a whole.
    """
    shown = text
    for url in urls:
        if url:
            shown = shown.replace(url, masked(url))
    secrets = {secret for url in urls for secret in _secrets(url)}
    if any(len(secret) < _SHORTEST_MASKED and secret in shown for secret in secrets):
        return "(what it said is not shown: it holds the password)"
    for secret in sorted(secrets, key=len, reverse=True):
        shown = shown.replace(secret, "***")
    return shown


def _secrets(url: str) -> Iterator[str]:
    """Yields what could be a secret in a URL, as it is written and as it is meant, whole and in parts."""
    _, separator, rest = url.partition("://")
    rest = rest if separator else url
    credentials, at, place = rest.rpartition("@")
    # Without an @, and without a scheme, nothing can be told from a password.
    found = {credentials.partition(":")[2]} if at else (set() if separator else {rest})
    query = (place if at else rest).partition("?")[2].partition("#")[0]
    found |= {value for name, value in parse_qsl(query) if _SECRET_OPTION.search(name)}
    for secret in filter(None, found):
        yield from {secret, unquote(secret)}
        # What a library took for a host, a port or a path: a part between two signs.
        yield from (part for part in _SIGNS.split(secret) if len(part) >= _SHORTEST_MASKED)


def check_kafka_servers(servers: str) -> None:
    """Checks the bootstrap servers of a Kafka cluster: `host` or `host:port`, or several with commas between.

    Raises:
        SettingsError: If one of them is something else.
    """
    for server in map(str.strip, servers.split(",")):
        try:
            _check_kafka_server(server)
        except UnusableUrlError as error:
            raise SettingsError(
                f"{KAFKA} is not a list of Kafka servers, got {masked(servers)!r}: {error}. Write host:9092, or "
                "several with commas between; user and password are options of their own."
            ) from None


def _check_address(address: str) -> None:
    if address.count("@") > 1:
        raise UnusableUrlError("it has more than one @: write an @ in the user or the password as %40")
    check_port(_port_of(address))


def _check_kafka_server(server: str) -> None:
    host = server.rpartition(":")[0] if ":" in server else server
    if not host or "/" in server or "@" in server or any(map(str.isspace, server)):
        raise UnusableUrlError("a server is a host and a port")
    check_port(_port_of(server))


def _port_of(address: str) -> str:
    place = address.rpartition("@")[2]
    return "" if place.endswith("]") or ":" not in place else place.rpartition(":")[2]


def _is_number(text: str) -> bool:
    return text.isascii() and (text.isdigit() or not text)
