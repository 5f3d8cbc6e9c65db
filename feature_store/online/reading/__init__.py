"""The one read path: which catalog, what is asked for, one round trip, on-demand features, statuses, the request log.

The Python client, the asynchronous client, the feature server and Feast's contract are transports over `OnlineReads`:
they take a request and hand on its answer, and decide nothing in between. Keys and bytes belong to the layouts,
connections to `client` and `async_client`.
"""
