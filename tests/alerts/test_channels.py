"""Messages on their way, to real listeners: what they say, and what happens when a channel is dead."""

from __future__ import annotations

import logging
import socket

import pytest

from feature_store.alerts.notifier import GIVEN_UP_AFTER, RETRY_AFTER
from feature_store.alerts.settings import AlertSettings
from feature_store.errors import SettingsError
from feature_store.settings import Settings
from tests.alerts.conftest import NOW, failing, passing
from tests.servers.listeners import MailListener

SECRET = "T0000/B0000/hunter2-hunter2"


def test_the_webhook_gets_everything_as_plain_json(alerts_with, http):
    alerts_with(ALERT_WEBHOOK=f"{http.url}/hook", UI_URL="https://dagster.example.com/").report([failing("2024-03-04")])
    assert http.paths == ["/hook"]
    assert http.bodies == [
        {
            "event": "opened",
            "incident": 1,
            "key": "check/spending/null_rate",
            "title": "null_rate of spending fails (2024-03-04)",
            "severity": "error",
            "summary": "Too many nulls: amount_3d 12.0% > 5.0%.",
            "group": "spending",
            "owner": "team@example.com",
            "numbers": {"null_rate/amount_3d": 0.12},
            "partitions": ["2024-03-04"],
            "partition_count": 1,
            "remedy": "Look at the source <orders> & materialize the partition again.",
            "link": "https://dagster.example.com/assets/spending?view=checks",
            "run_link": "https://dagster.example.com/runs/run-7",
            "opened_at": "2024-03-10T06:00:00Z",
            "resolved_at": None,
        }
    ]


def test_slack_gets_blocks_in_its_own_escapes(alerts_with, http):
    alerts = alerts_with(ALERT_SLACK=http.url, UI_URL="https://dagster.example.com")
    alerts.report([failing("2024-03-04")])
    alerts.report([passing("2024-03-05")])
    opened, recovered = http.bodies
    assert opened["text"] == "null_rate of spending fails (2024-03-04)"
    (attachment,) = opened["attachments"]
    texts = str(attachment["blocks"])
    for part in (
        "12.0% &gt; 5.0%",
        "*owner*\\nteam@example.com",
        "*feature*\\namount_3d",
        "null_rate/amount_3d = 0.12",
    ):
        assert part in texts
    assert "&lt;orders&gt; &amp; materialize" in texts
    assert "<https://dagster.example.com/runs/run-7|Run>" in texts
    assert recovered["text"] == "Recovered: null_rate of spending fails"
    assert recovered["attachments"][0]["color"] != attachment["color"]


def test_mail_gets_text_in_one_thread_per_incident(alerts_with, mail):
    alerts = alerts_with(ALERT_EMAIL="a@example.com, Bea <b@example.com>", SMTP=f"{mail.url}?from=store@example.com")
    alerts.report([failing("2024-03-04")])
    alerts.report([passing("2024-03-05")])
    opened, recovered = mail.mails
    assert opened["Subject"] == "null_rate of spending fails (2024-03-04)"
    assert (opened["From"], opened["To"]) == ("store@example.com", "a@example.com, Bea <b@example.com>")
    assert recovered["Subject"].startswith("Recovered: ")
    assert opened["References"] == recovered["References"]
    text = opened.get_content()
    for line in (
        "owner: team@example.com",
        "partitions: 2024-03-04",
        "  null_rate/amount_3d = 0.12",
        "What to do: Look",
    ):
        assert line in text


def test_every_message_is_in_the_log(alerts_with, caplog):
    caplog.set_level(logging.INFO, "feature_store.alerts")
    (notice,) = alerts_with().report([failing("2024-03-04")])
    assert notice.delivered == ("log",)
    assert "null_rate of spending fails (2024-03-04)" in caplog.text
    assert "owner: team@example.com" in caplog.text


def test_a_server_that_stumbles_is_asked_again_and_one_that_refuses_is_not(alerts_with, http):
    alerts = alerts_with(ALERT_WEBHOOK=http.url)
    http.answers = [503]
    assert alerts.report([failing("2024-03-04")])[0].errors == {}
    assert len(http.paths) == 2
    http.answers = [404]
    (notice,) = alerts.report([failing("2024-03-04", key="another")])
    assert notice.errors == {"webhook": "webhook: http://127.0.0.1 answered 404."}
    assert len(http.paths) == 3


def test_a_redirect_is_not_followed(alerts_with, http):
    http.answers = [302]
    (notice,) = alerts_with(ALERT_WEBHOOK=http.url).report([failing("2024-03-04")])
    assert "answered 302" in notice.errors["webhook"]


def test_a_dead_channel_holds_back_no_other_and_is_tried_again_later(alerts_with, http, clock, caplog, registry):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}"
    alerts = alerts_with(ALERT_SLACK=dead, ALERT_WEBHOOK=http.url)
    first, second = alerts.report([failing("2024-03-04"), failing("2024-03-04", key="another")])
    assert first.delivered == second.delivered == ("log", "webhook")
    assert "Connection refused" in first.errors["slack"]
    assert "a moment before" in second.errors["slack"]
    kept = registry.incidents()["another"]
    assert kept.deliveries["slack"]["error"] == second.errors["slack"]
    assert kept.pending == "opened"
    assert alerts.report([]) == []

    revived = alerts_with(ALERT_SLACK=f"{http.url}/{SECRET}", ALERT_WEBHOOK=http.url)
    clock.set(NOW + RETRY_AFTER)
    assert [notice.errors for notice in revived.report([])] == [{}, {}]
    assert [path for path in http.paths if SECRET in path] == [f"/{SECRET}"] * 2
    assert len(http.bodies) == 4
    assert revived.report([]) == []
    assert "hunter2" not in caplog.text
    assert "hunter2" not in str(registry.incidents())


def test_a_channel_that_stays_dead_is_given_up_and_stays_visible(alerts_with, http, clock, registry):
    http.answers = [500] * 99
    alerts = alerts_with(ALERT_WEBHOOK=http.url)
    alerts.report([failing("2024-03-04")])
    clock.set(NOW + GIVEN_UP_AFTER - RETRY_AFTER)
    assert len(alerts.report([])) == 1
    assert registry.incidents()["check/spending/null_rate"].pending == "opened"
    clock.set(NOW + GIVEN_UP_AFTER)
    assert len(alerts.report([])) == 1
    clock.set(NOW + 2 * GIVEN_UP_AFTER)
    assert alerts.report([]) == []
    record = registry.incidents()["check/spending/null_rate"]
    assert (record.pending, record.deliveries["webhook"]["attempts"]) == (None, 3)
    assert "answered 500" in record.deliveries["webhook"]["error"]


def test_a_channel_that_never_answers_costs_its_timeout_alone(alerts_with, http):
    http.hold.clear()
    (notice,) = alerts_with(ALERT_WEBHOOK=http.url).report([failing("2024-03-04")])
    assert "no answer within 0.5 s, in 2 attempts" in notice.errors["webhook"]


def test_a_mail_server_that_refuses_is_an_error_like_any_other(alerts_with):
    with MailListener(refuse="451 try later") as mail:
        alerts = alerts_with(ALERT_EMAIL="a@example.com", SMTP=mail.url)
        (notice,) = alerts.report([failing("2024-03-04")])
        assert "answer 451" in notice.errors["email"]


def test_a_password_is_never_sent_in_the_clear(alerts_with, mail, caplog):
    alerts = alerts_with(
        ALERT_EMAIL="a@example.com", SMTP=mail.url.replace("smtp://", "smtp://store%40example.com:hunter2@")
    )
    (notice,) = alerts.report([failing("2024-03-04")])
    assert "not sent in the clear" in notice.errors["email"]
    assert "hunter2" not in notice.errors["email"] + caplog.text


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FEATURE_STORE_ALERT_WEBHOOK", "hooks.example.com/hunter2", "no URL"),
        ("FEATURE_STORE_ALERT_SLACK", "ftp://hooks.example.com/hunter2", "no URL"),
        ("FEATURE_STORE_ALERT_SLACK", "https://hooks.example.com/a\nhunter2", "no URL"),
        ("FEATURE_STORE_SMTP", "http://hunter2@mail", "malformed"),
        ("FEATURE_STORE_SMTP", "smtp://u:hunter2@mail:port", "malformed"),
        ("FEATURE_STORE_SMTP", "smtp://u:hunter2@mail?tsl=no", "malformed"),
        ("FEATURE_STORE_ALERT_EMAIL", "a@example.com", "FEATURE_STORE_SMTP is not"),
        ("FEATURE_STORE_ALERT_EMAIL", "nobody", "no e-mail address"),
    ],
)
def test_malformed_settings_are_refused_without_showing_secrets(name, value, says):
    with pytest.raises(SettingsError, match=says) as caught:
        AlertSettings.of(Settings.from_env({name: value}))
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_show_secrets():
    settings = AlertSettings.of(
        Settings.from_env(
            {
                "FEATURE_STORE_ALERT_WEBHOOK": "https://example.com/hunter2",
                "FEATURE_STORE_ALERT_SLACK": "https://example.com/hunter2",
                "FEATURE_STORE_ALERT_EMAIL": "a@example.com",
                "FEATURE_STORE_SMTP": "smtps://u:hunter2@mail.example.com",
            }
        )
    )
    assert "hunter2" not in repr(settings)
    assert (settings.mail_server.port, settings.mail_server.tls) == (465, "implicit")
