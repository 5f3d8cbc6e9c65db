"""Streams: events from Kafka become feature rows within a second, by the function that the batch runs.

`streamer` reads events, keeps the state and writes rows; `drainer` carries the rows from Kafka into the offline store.
What is here knows neither the offline nor the online store: it is given what it writes to.
"""
