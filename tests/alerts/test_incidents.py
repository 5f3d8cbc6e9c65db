"""When people are told, and when not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.alerts.conftest import NOW, failing, passing


@pytest.fixture
def alerts(alerts_with, http):
    return alerts_with(ALERT_WEBHOOK=http.url)


def events(notices):
    return [notice.event for notice in notices]


def test_one_message_for_all_partitions_and_none_for_the_same_again(alerts, http):
    days = [f"2024-03-0{day}" for day in range(1, 8)]
    assert events(alerts.report([failing(*days)])) == ["opened"]
    assert alerts.report([failing(*days)]) == []
    assert [body["partition_count"] for body in http.bodies] == [7]
    assert http.bodies[0]["title"] == "null_rate of spending fails (7 partitions, 2024-03-01 to 2024-03-07)"


def test_days_that_go_on_failing_are_no_news_until_a_reminder_is_due(alerts, clock):
    alerts.report([failing("2024-03-01")])
    told = []
    for day in range(2, 9):
        clock.set(NOW + timedelta(days=day))
        told += [(day, event) for event in events(alerts.report([failing(f"2024-03-0{day}")]))]
    assert told == [(3, "reminder"), (6, "reminder")]


def test_a_newer_partition_that_passes_is_a_recovery(alerts, clock, http):
    alerts.report([failing("2024-03-04")])
    assert alerts.report([passing("2024-03-03")]) == []
    clock.set(NOW + timedelta(hours=5))
    assert events(alerts.report([passing("2024-03-05")])) == ["recovered"]
    assert alerts.report([passing("2024-03-06")]) == []
    recovered = http.bodies[-1]
    assert (recovered["event"], recovered["partitions"], recovered["resolved_at"]) == (
        "recovered",
        ["2024-03-04"],
        "2024-03-10T11:00:00Z",
    )
    assert alerts.open_incidents() == []


def test_the_partition_itself_that_passes_is_a_recovery(alerts):
    alerts.report([failing("2024-03-04", "2024-03-05")])
    assert alerts.report([passing("2024-03-04")]) == []
    assert events(alerts.report([passing("2024-03-05")])) == ["recovered"]


def test_what_was_told_once_and_let_be_is_no_news_when_it_is_computed_again(alerts, http):
    year = failing("2024-02-09", "2024-02-11", passed=("2024-02-10", "2024-02-12"))
    assert events(alerts.report([year])) == ["opened"]
    assert "2024-02-12 passes: no further message" in str(http.bodies) or http.bodies[0]["resolved_at"]
    assert alerts.report([year]) == []
    assert events(alerts.report([failing("2024-02-13")])) == ["opened"]


def test_what_failed_passed_and_fails_again_is_news(alerts):
    assert events(alerts.report([failing("2024-03-04")])) == ["opened"]
    assert events(alerts.report([passing("2024-03-04")])) == ["recovered"]
    assert events(alerts.report([failing("2024-03-04")])) == ["opened"]


def test_what_has_no_partitions_opens_and_recovers_too(alerts, http):
    broken, well = failing(""), passing("")
    assert [events(alerts.report([found])) for found in (well, broken, broken, well, well, broken)] == [
        [],
        ["opened"],
        [],
        ["recovered"],
        [],
        ["opened"],
    ]
    assert http.bodies[0]["title"] == "null_rate of spending fails"


def test_several_incidents_are_kept_apart(alerts):
    other = failing("2024-03-04", key="check/spending/psi")
    assert events(alerts.report([failing("2024-03-04"), other])) == ["opened", "opened"]
    assert [record.key for record in alerts.open_incidents()] == ["check/spending/null_rate", "check/spending/psi"]
    assert events(alerts.report([passing("2024-03-04")])) == ["recovered"]
    assert [record.key for record in alerts.open_incidents()] == ["check/spending/psi"]


def test_state_is_kept_between_processes(alerts_with, http):
    alerts_with(ALERT_WEBHOOK=http.url).report([failing("2024-03-04")])
    assert alerts_with(ALERT_WEBHOOK=http.url).report([failing("2024-03-04")]) == []
    assert len(http.bodies) == 1


def test_what_is_noted_is_sent_by_whoever_delivers(alerts_with, http):
    noting = alerts_with()
    assert [record.pending for record in noting.note([failing("2024-03-04")])] == ["opened"]
    assert http.bodies == []
    delivering = alerts_with(ALERT_WEBHOOK=http.url)
    assert events(delivering.deliver()) == ["opened"]
    assert delivering.deliver() == []
    assert len(http.bodies) == 1


def test_of_two_that_deliver_at_once_one_sends(alerts_with, http):
    alerts_with().note([failing("2024-03-04")])
    http.hold.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(alerts_with(ALERT_WEBHOOK=http.url).deliver)
        while not http.paths:
            assert not first.done()
        assert alerts_with(ALERT_WEBHOOK=http.url).deliver() == []
        http.hold.set()
        assert events(first.result()) == ["opened"]
    assert len(http.bodies) == 1


def test_a_message_whose_sender_died_is_sent_by_another_later(alerts_with, http, clock, monkeypatch):
    sender = alerts_with(ALERT_WEBHOOK=http.url)
    sender.note([failing("2024-03-04")])

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("feature_store.alerts.notifier.message_of", die)
        with pytest.raises(KeyboardInterrupt):
            sender.deliver()
    assert sender.deliver() == []
    clock.set(NOW + timedelta(minutes=3))
    assert events(sender.deliver()) == ["opened"]
    assert len(http.bodies) == 1


def test_what_is_over_before_anybody_was_told_is_told_once(alerts_with, http):
    alerts_with().note([failing("2024-03-04")])
    alerts_with().note([passing("2024-03-04")])
    alerts = alerts_with(ALERT_WEBHOOK=http.url)
    assert events(alerts.deliver()) == ["opened"]
    assert alerts.deliver() == []
    (body,) = http.bodies
    assert body["resolved_at"]


def test_where_each_partition_has_to_pass_a_newer_one_is_no_recovery(alerts):
    alerts.report([replace(failing("2024-03-04", "2024-03-05"), needs_all=True)])
    assert alerts.report([replace(passing("2024-03-06"), needs_all=True)]) == []
    assert alerts.report([replace(passing("2024-03-04"), needs_all=True)]) == []
    assert events(alerts.report([replace(passing("2024-03-05"), needs_all=True)])) == ["recovered"]
