"""Alerts: one message per incident, to the people who answer for it, and one when it is well again.

`Alerts` (in `alerts.notifier`) is the way in: it takes findings. `incidents` decides what is worth a message, `message`
says it, `channels` carry it. What is wrong is found elsewhere; nothing here knows Dagster.
"""
