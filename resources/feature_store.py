"""The feature store: what the environment and `.env` name, see `.env.example` and docs/settings.md."""

from dagster_feature_store import FeatureStoreResource

feature_store = FeatureStoreResource()
