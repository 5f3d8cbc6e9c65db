"""Channels: how a message gets to people. Each has a timeout and a bounded number of attempts, and says why it failed.

What a channel's URL holds beside the host is a secret and stands in no error.
"""

from __future__ import annotations

import http.client
import logging
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from feature_store.alerts.message import Message
from feature_store.alerts.settings import AlertSettings, MailServer
from feature_store.errors import AlertError

TIMEOUT_SECONDS = 5.0
ATTEMPTS = 2
PAUSE_SECONDS = 0.5

_TOO_MANY = 429
_SERVER_ERROR = 500

_log = logging.getLogger("feature_store.alerts")


class Channel(Protocol):
    """Carries messages.

    Attributes:
        name: What it is called in settings, logs and the registry.
    """

    name: str

    def send(self, message: Message) -> None:
        """Delivers a message.

        Raises:
            AlertError: If it could not be delivered in any attempt.
        """
        ...


class Webhook:
    """Posts JSON to a URL.

    Args:
        name: The channel's name.
        url: Where to.
        body: Makes the body of a message.
    """

    def __init__(self, name: str, url: str, body: Callable[[Message], dict[str, Any]]) -> None:
        self.name = name
        self._url = url
        self._body = body
        self._opener = urllib.request.build_opener(_NoRedirects)

    def send(self, message: Message) -> None:
        """Posts a message; see `Channel.send`."""
        request = urllib.request.Request(  # noqa: S310 - settings allow http and https alone
            self._url,
            data=msgspec.json.encode(self._body(message)),
            headers={"Content-Type": "application/json", "User-Agent": "feature-store"},
            method="POST",
        )
        where = f"{urlsplit(self._url).scheme}://{urlsplit(self._url).hostname}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._opener.open(request, timeout=TIMEOUT_SECONDS):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"{where} answered {error.code}"
                # It understood and refused: the same again changes nothing.
                if error.code < _SERVER_ERROR and error.code != _TOO_MANY:
                    raise AlertError(f"{self.name}: {reason}.") from None
            except (OSError, http.client.HTTPException) as error:
                reason = f"{where} does not answer: {_reason(error)}"
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS)
        raise AlertError(f"{self.name}: {reason}, in {ATTEMPTS} attempts.") from None


class Mail:
    """Sends mail.

    Args:
        server: Sends it.
        recipients: Get it.
    """

    name = "email"

    def __init__(self, server: MailServer, recipients: tuple[str, ...]) -> None:
        self._server = server
        self._recipients = recipients

    def send(self, message: Message) -> None:
        """Sends a message; see `Channel.send`."""
        mail = EmailMessage()
        mail["Subject"] = message.title
        mail["From"] = self._server.sender
        mail["To"] = ", ".join(self._recipients)
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain=parseaddr(self._server.sender)[1].rpartition("@")[2] or None)
        # Messages of one incident stand together in a mail program.
        thread = f"<incident-{message.incident}@feature-store>"
        mail["References"] = thread
        mail.set_content(message.text())
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._connected() as connection:
                    connection.send_message(mail)
            except smtplib.SMTPAuthenticationError:
                raise AlertError(f"{self.name}: {self._server.host} refused the user or password.") from None
            except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
                raise AlertError(f"{self.name}: {self._server.host} refused: {type(error).__name__}.") from None
            except (OSError, smtplib.SMTPException) as error:
                reason = _reason(error)
            else:
                return
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS)
        raise AlertError(
            f"{self.name}: {self._server.host}:{self._server.port} does not take the mail: {reason}, in {ATTEMPTS} "
            "attempts."
        ) from None

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        server = self._server
        context = ssl.create_default_context()
        if server.tls == "implicit":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)
        with connection:
            connection.ehlo()
            encrypted = server.tls == "implicit"
            if server.tls == "starttls" or (not encrypted and connection.has_extn("starttls")):
                connection.starttls(context=context)
                encrypted = True
            if server.user is not None:
                if not encrypted:
                    raise smtplib.SMTPException("it offers no encryption, and a password is not sent in the clear")
                connection.login(server.user, server.password or "")
            yield connection


class Log:
    """Writes messages to the log `feature_store.alerts`: always there, so that no incident is told to nobody."""

    name = "log"

    def send(self, message: Message) -> None:
        """Writes a message; see `Channel.send`."""
        level = logging.INFO if message.event == "recovered" else logging.WARNING
        _log.log(level, "%s", message.text())


def channels_of(settings: AlertSettings) -> list[Channel]:
    """Returns the channels that the settings name, and the log."""
    channels: list[Channel] = [Log()]
    if settings.webhook:
        channels.append(Webhook("webhook", settings.webhook, Message.json))
    if settings.slack:
        channels.append(Webhook("slack", settings.slack, Message.slack))
    if settings.recipients and settings.mail_server:
        channels.append(Mail(settings.mail_server, settings.recipients))
    return channels


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the message to a host that nobody has named; it is an answer like any other."""

    def redirect_request(self, *_: Any) -> None:
        """Refuses."""


def _reason(error: BaseException) -> str:
    """Returns why an attempt failed, without what a URL or a server's answer might give away."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(cause, smtplib.SMTPResponseException):
        return f"answer {cause.smtp_code}"
    if isinstance(cause, smtplib.SMTPException):
        return str(cause)
    return getattr(cause, "strerror", None) or type(cause).__name__
