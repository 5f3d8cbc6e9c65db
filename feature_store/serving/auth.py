"""Bearer tokens: who may read and write which feature groups.

Tokens come from the environment, are kept as digests only, and never reach a log or a message.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import msgspec

from feature_store.errors import SettingsError
from feature_store.serving.problems import HttpError
from feature_store.settings import Settings

VARIABLE = "FEATURE_STORE_SERVER_TOKENS"

_SHORTEST_TOKEN = 16
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHALLENGE = ((b"www-authenticate", b'Bearer realm="feature-store"'),)
_ALL = "*"


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    token: str | None = None
    sha256: str | None = None
    read: list[str] = []
    write: list[str] = []


@dataclass(frozen=True, slots=True)
class Access:
    """What the holder of one token may do.

    Attributes:
        name: Whom the token was given to; stands in the log.
        read: Feature groups that may be read; None for all.
        write: Feature groups that may be written; None for all.
    """

    name: str
    read: frozenset[str] | None
    write: frozenset[str] | None

    def check_read(self, groups: Iterable[str]) -> None:
        """Refuses to read groups that the token does not name.

        Raises:
            HttpError: 403, if one of them is not among the token's groups.
        """
        self._check(groups, self.read, "read")

    def check_write(self, groups: Iterable[str]) -> None:
        """Refuses to write groups that the token does not name.

        Raises:
            HttpError: 403, if one of them is not among the token's groups.
        """
        self._check(groups, self.write, "write")

    def may_read_all(self, groups: Iterable[str]) -> bool:
        """Returns whether all of some groups may be read."""
        return self.read is None or self.read.issuperset(groups)

    def may_read(self, group: str) -> bool:
        """Returns whether a group may be read."""
        return self.read is None or group in self.read

    def _check(self, groups: Iterable[str], allowed: frozenset[str] | None, verb: str) -> None:
        if allowed is None:
            return
        refused = sorted(set(groups) - allowed)
        if refused:
            raise HttpError(
                HTTPStatus.FORBIDDEN,
                f"{self.name} may not {verb} {', '.join(map(repr, refused))}: ask the server's operator for a token "
                f"that names the group(s) under {verb!r}.",
            )


ANYONE = Access("anyone", read=None, write=frozenset())
"""Who needs no token, on a server that has none: reads all, writes nothing."""

NOBODY = Access("nobody", read=frozenset(), write=frozenset())
"""Who sends no token that is known, on a server that has tokens: reads nothing, writes nothing."""


class Tokens:
    """The tokens of a server.

    Args:
        holders: SHA-256 digest of each token, and what its holder may do. None at all: anyone may read.
    """

    def __init__(self, holders: Mapping[bytes, Access]) -> None:
        self._holders = tuple(holders.items())

    @classmethod
    def of(cls, settings: Settings) -> Tokens:
        """Returns the tokens that settings name: JSON, or the path of a file that holds it; see `parse`.

        Raises:
            SettingsError: If it is malformed, or the file cannot be read.
        """
        text = (settings.server_tokens or "").strip()
        if not text:
            return cls({})
        if not text.startswith("{"):
            try:
                text = Path(text).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    f"{VARIABLE} is no JSON object and no readable file ({type(error).__name__}): write "
                    '{"name": {"sha256": "...", "read": ["group"]}}, or the path of a file with that.'
                ) from None
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Tokens:
        """Reads `{"name": {"sha256": "<hex>", "read": ["group", ...], "write": [...]}, ...}`.

        `"token"` with the token itself may stand for `"sha256"`. `["*"]` stands for all groups; what is not said is
        not allowed.

        Raises:
            SettingsError: If the text is something else.
        """
        try:
            entries = msgspec.json.decode(text, type=dict[str, _Entry])
        except msgspec.MsgspecError as error:
            # The library's reasons name places and types, never values.
            raise SettingsError(
                f'{VARIABLE} is malformed ({error}): write {{"name": {{"sha256": "...", "read": ["group"]}}}}.'
            ) from None
        holders: dict[bytes, Access] = {}
        for name, entry in entries.items():
            digest = _digest_of(name, entry)
            if digest in holders:
                raise SettingsError(f"{VARIABLE}: {holders[digest].name!r} and {name!r} have the same token.")
            holders[digest] = Access(name, _groups(entry.read), _groups(entry.write))
        return cls(holders)

    def __bool__(self) -> bool:
        return bool(self._holders)

    def access(self, authorization: bytes | None) -> Access:
        """Returns what the sender of an `Authorization` header may do.

        Raises:
            HttpError: 401, if a token is needed and missing, or unknown.
        """
        if not self._holders:
            return ANYONE
        found = self._found(authorization)
        if found is not None:
            return found
        if authorization is None or not authorization.lower().startswith(b"bearer "):
            detail = "A token is needed: send the header Authorization: Bearer <token>."
        else:
            detail = "The token is unknown to this server: ask its operator for one."
        raise HttpError(HTTPStatus.UNAUTHORIZED, detail, _CHALLENGE)

    def known(self, authorization: bytes | None) -> Access:
        """Returns what the sender of an `Authorization` header may do where none is needed: `NOBODY` without one."""
        return (self._found(authorization) or NOBODY) if self._holders else ANYONE

    def _found(self, authorization: bytes | None) -> Access | None:
        scheme, _, token = (authorization or b"").partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            return None
        digest = hashlib.sha256(token).digest()
        found = None
        # All are compared, each in constant time: how long it takes tells nothing.
        for known, access in self._holders:
            if hmac.compare_digest(known, digest):
                found = access
        return found


def _digest_of(name: str, entry: _Entry) -> bytes:
    if (entry.token is None) == (entry.sha256 is None):
        raise SettingsError(f"{VARIABLE}: {name!r} needs either 'sha256' (the hex digest of its token) or 'token'.")
    if entry.sha256 is not None:
        if not _DIGEST.fullmatch(entry.sha256):
            raise SettingsError(f"{VARIABLE}: the sha256 of {name!r} must be 64 hexadecimal digits in lower case.")
        return bytes.fromhex(entry.sha256)
    token = entry.token or ""
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            f"{VARIABLE}: the token of {name!r} must be {_SHORTEST_TOKEN} or more printable ASCII characters without "
            "blanks, for instance from `openssl rand -hex 32`."
        )
    return hashlib.sha256(token.encode()).digest()


def _groups(names: list[str]) -> frozenset[str] | None:
    return None if _ALL in names else frozenset(names)
