"""The feature store: what the environment and `.env` name; `feature-store --help` lists the settings."""

from dagster_feature_store import FeatureStoreResource

feature_store = FeatureStoreResource()
