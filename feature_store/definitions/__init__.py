"""What a user writes: entities, sources, schemas, feature groups and training sets.

Nothing here reads or writes a store. `dtypes`, `names` and `entity` need nothing but the standard library.
"""
