"""Run by Feast's own Python, not by the tests': reads from a feature server with Feast's `remote` online store.

Takes JSON on stdin: `folder`, `url`, and `calls` by name, each a token or null, a method and its arguments. Prints the
answers by name as JSON, an error as its text.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Array, Bool, Float32, Float64, Int64, String, UnixTimestamp


def definitions(folder):
    batch = FileSource(name="batch", path=str(folder / "none.parquet"), timestamp_field="event_timestamp")
    customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)
    spending = FeatureView(
        name="spending",
        entities=[customer],
        ttl=timedelta(days=2),
        schema=[Field(name=name, dtype=Int64) for name in ("orders_3d", "amount_3d", "last_amount")],
        source=PushSource(name="spending", batch_source=batch),
    )
    types = {
        "score": Float64,
        "score_v2": Float64,
        "nickname": String,
        "subscribed": Bool,
        "first_seen": UnixTimestamp,
        "taste": Array(Float32),
        "visits": Int64,
    }
    traits = FeatureView(
        name="traits",
        entities=[customer],
        ttl=timedelta(days=2),
        schema=[Field(name=name, dtype=dtype) for name, dtype in types.items()],
        source=batch,
    )
    return [batch, customer, spending, traits, FeatureService(name="profile", features=[traits])]


def call(store, method, arguments):
    if method == "write":
        frame = pd.DataFrame(arguments["rows"])
        frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"])
        store.write_to_online_store(arguments["view"], frame)
        return None
    features = arguments["features"]
    if isinstance(features, str):
        features = store.get_feature_service(features)
    full = arguments.get("full_feature_names", False)
    return store.get_online_features(features, arguments["rows"], full_feature_names=full).to_dict()


def main():
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    (folder / "feature_store.yaml").write_text(
        f"project: shop\nprovider: local\nregistry: {folder}/registry.db\nentity_key_serialization_version: 3\n"
        f"online_store:\n  type: remote\n  path: {request['url']}\noffline_store:\n  type: file\n"
        "auth:\n  type: oidc\n  token_env_var: TOKEN\n"
    )
    store = FeatureStore(repo_path=str(folder))
    store.apply(definitions(folder))
    answers = {}
    for name, (token, method, arguments) in request["calls"].items():
        os.environ["TOKEN"] = token
        try:
            answers[name] = call(store, method, arguments)
        except Exception as error:  # noqa: BLE001 - an answer like any other
            answers[name] = f"{type(error).__name__}: {error}"
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
