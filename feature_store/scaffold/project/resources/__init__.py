"""This project's stores: which offline store, online store, registry and broker it uses."""
