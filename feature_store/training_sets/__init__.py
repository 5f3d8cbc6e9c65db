"""Training sets as products: versions that never change, in `{root}/training_sets/{name}/v{n}/`.

They are built from a definition, and read, compared, rebuilt and verified from what they left on disk. What a user
declares is in `feature_store.definitions`; how features are joined is in `feature_store.offline.point_in_time`.
"""
