"""Where alerts go: from the environment alone, since URLs of webhooks and of mail servers are secrets."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from email.utils import parseaddr
from urllib.parse import parse_qs, unquote, urlsplit

from feature_store.errors import SettingsError
from feature_store.settings import Settings

_WEBHOOK = "FEATURE_STORE_ALERT_WEBHOOK"
_SLACK = "FEATURE_STORE_ALERT_SLACK"
_EMAIL = "FEATURE_STORE_ALERT_EMAIL"
_SMTP = "FEATURE_STORE_SMTP"
_UI = "FEATURE_STORE_UI_URL"
_SMTP_EXAMPLE = "Write smtp://user:password@host:587?from=alerts@example.com, or smtps:// for port 465."


@dataclass(frozen=True, slots=True)
class MailServer:
    """How to reach a mail server.

    Attributes:
        host: Its name.
        port: Its port.
        tls: `implicit` (`smtps://`), `starttls` (needed), or `opportunistic` (STARTTLS where the server offers it).
        user: Who logs in, None for nobody.
        password: With which password. Not shown.
        sender: The address in From.
    """

    host: str
    port: int
    tls: str
    user: str | None
    password: str | None = field(repr=False)
    sender: str


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Channels of alerts; what is not set is not used. Messages go to the log in any case.

    Attributes:
        webhook: URL that gets each message as plain JSON. Not shown.
        slack: URL of a Slack-compatible incoming webhook. Not shown.
        recipients: Addresses that get mail.
        mail_server: Sends it.
        ui_url: Base URL of the Dagster page, for links.
    """

    webhook: str | None = field(default=None, repr=False)
    slack: str | None = field(default=None, repr=False)
    recipients: tuple[str, ...] = ()
    mail_server: MailServer | None = None
    ui_url: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> AlertSettings:
        """Returns the channels that settings name.

        Raises:
            SettingsError: If one is malformed. The message names the setting, never its value.
        """
        recipients = tuple(filter(None, (address.strip() for address in (settings.alert_email or "").split(","))))
        for address in recipients:
            if "@" not in parseaddr(address)[1] or not address.isprintable():
                raise SettingsError(f"{_EMAIL} names {address!r}, which is no e-mail address.")
        smtp = settings.smtp
        if recipients and smtp is None:
            raise SettingsError(f"{_EMAIL} is set but {_SMTP} is not, so nothing can send the mail. {_SMTP_EXAMPLE}")
        return cls(
            webhook=_http_url(settings.alert_webhook, _WEBHOOK),
            slack=_http_url(settings.alert_slack, _SLACK),
            recipients=recipients,
            mail_server=None if smtp is None else _mail_server(smtp),
            ui_url=_http_url(settings.ui_url, _UI),
        )


def _http_url(text: str | None, name: str) -> str | None:
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url or not text.isprintable() or " " in text:
        raise SettingsError(f"{name} is no URL: write https://host/path. Its value is not shown, it may be a secret.")
    return text


def _mail_server(text: str) -> MailServer:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise SettingsError(f"{_SMTP} is malformed. {_SMTP_EXAMPLE}") from None
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    tls = "implicit" if parts.scheme == "smtps" else options.get("tls", "opportunistic")
    known = {"implicit", "starttls", "opportunistic"}
    if (
        parts.scheme not in {"smtp", "smtps"}
        or not parts.hostname
        or tls not in known
        or options.keys() - {"from", "tls"}
    ):
        raise SettingsError(f"{_SMTP} is malformed. {_SMTP_EXAMPLE} `?tls=starttls` insists on encryption.")
    user = unquote(parts.username) if parts.username else None
    sender = options.get("from") or (user if user and "@" in user else f"feature-store@{socket.getfqdn()}")
    return MailServer(
        host=parts.hostname,
        port=port or (465 if tls == "implicit" else 25),
        tls=tls,
        user=user,
        password=unquote(parts.password) if parts.password else None,
        sender=sender,
    )
