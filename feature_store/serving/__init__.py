"""The HTTP feature server: online features for clients in any language.

It answers with what `FeatureStore` answers, and holds no rule of its own. Needs the extra `serve`.
"""
