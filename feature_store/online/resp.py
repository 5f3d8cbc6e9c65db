"""Single commands in the server's wire protocol (RESP). Whole columns at once are `protocol`'s."""

from __future__ import annotations


def bulk(text: bytes) -> bytes:
    """Returns bytes as a protocol bulk string."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def script_call(digest: str, keys: tuple[int, bytes], arguments: tuple[int, bytes]) -> bytes:
    """Returns an EVALSHA command, of the number of its keys and arguments and their bulk strings, joined."""
    head = b"*%d\r\n" % (3 + keys[0] + arguments[0])
    words = [b"EVALSHA", digest.encode(), b"%d" % keys[0]]
    return b"".join([head, *map(bulk, words), keys[1], arguments[1]])
