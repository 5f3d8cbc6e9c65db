"""A Dagster project of others, to which the feature store is added: flat, with modules named as they like."""
