"""What S3 says when it does not do what it was asked: whether that may pass, and what is to be done about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(.*?)</Code>", re.DOTALL)
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_REDIRECT = "Received redirect without LOCATION"
_UNREACHABLE = re.compile(r"kind: Connect\b|dns error|tcp connect error|Connection refused")
_EXPECTED_REGION = re.compile(r"expecting '([a-z0-9-]+)'")

_PASSING = frozenset({408, 409, 425, 429})
_SERVER_ERROR, _NOT_IMPLEMENTED = 500, 501
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"})
_OTHER_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect"}
)
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is none, or that there is no answer.

    Attributes:
        status: Status of HTTP; 0 where there was no answer.
        code: The code that S3 gives, empty where it says none.
        message: What S3 says, or the client.
        reached: Whether a server was reached at all.
    """

    status: int
    code: str
    message: str
    reached: bool = True

    @classmethod
    def of(cls, error: BaseException) -> Refusal:
        """Returns what an error of the client tells of."""
        text = str(error)
        told, _, debug = text.partition("\n\nDebug source")
        if _REDIRECT in told:
            return cls(301, "PermanentRedirect", "the server has redirected the request")
        status, code, message = (pattern.search(told) for pattern in (_STATUS, _CODE, _MESSAGE))
        if status is None:
            return cls(0, "", told.strip().rstrip(".")[:_LONGEST], reached=_UNREACHABLE.search(debug or told) is None)
        words = unescape(message[1]) if message else told
        return cls(int(status[1]), code[1] if code else "", words.strip().rstrip(".")[:_LONGEST])

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered a moment later."""
        if self.status in _PASSING or self.status == 0:
            return True
        return self.status >= _SERVER_ERROR and self.status != _NOT_IMPLEMENTED

    @property
    def is_expired(self) -> bool:
        """Whether other credentials may help."""
        return self.code in _EXPIRED

    @property
    def has_words(self) -> bool:
        """Whether S3 has said what is wrong: an answer to HEAD has no room for that."""
        return bool(self.code)

    @property
    def lacks_bucket(self) -> bool:
        """Whether there is no such bucket."""
        return self.code == "NoSuchBucket"

    @property
    def takes_no_conditions(self) -> bool:
        """Whether the server does not know conditional requests."""
        return self.status == _NOT_IMPLEMENTED or self.code == "NotImplemented"

    def explained(self, bucket: str, endpoint: str | None, region: str) -> str:
        """Returns what is wrong, and the remedy, as sentences.

        Args:
            bucket: The bucket.
            endpoint: URL of the server, without secrets; None for Amazon's own.
            region: The region that was asked.
        """
        where = endpoint or f"Amazon S3 in {region}"
        if not self.reached:
            return (
                f"No server answers at {where}. Start it, or correct AWS_ENDPOINT_URL and AWS_REGION; see that this "
                "machine may reach it."
            )
        said = f"{self.code}: {self.message}." if self.code else f"{self.message}."
        return f"{said} {self._remedy(bucket, where, region)}"

    def _remedy(self, bucket: str, where: str, region: str) -> str:  # noqa: PLR0911  one line per cause
        if self.lacks_bucket:
            return f"There is no bucket {bucket!r} at {where}: create it, or correct its name or AWS_ENDPOINT_URL."
        if self.is_expired:
            return (
                "The credentials have expired: sign in again, or give the machine a role, which is renewed by itself."
            )
        if self.code in _UNKNOWN_KEY:
            return f"The credentials are not those of {where}: check access key, secret key and session token."
        if self.code in _OTHER_REGION:
            found = _EXPECTED_REGION.search(self.message)
            right = f"AWS_REGION={found[1]}" if found else "AWS_REGION to the bucket's"
            return f"The bucket {bucket!r} does not lie in region {region}: set {right}."
        if self.code == "RequestTimeTooSkewed":
            return "The clock of this machine is wrong: synchronize it (NTP)."
        if self.code == "AccessDenied" or self.status == 403:  # noqa: PLR2004  HTTP's "Forbidden"
            return (
                f"Access is denied: the user or role needs s3:ListBucket on {bucket!r}, and s3:GetObject, s3:PutObject "
                "and s3:DeleteObject on what lies below the prefix."
            )
        return "Check the bucket, AWS_ENDPOINT_URL, AWS_REGION and the credentials."
