"""Sensors and schedules: when things run. One file per sensor; what runs is defined in `feature_assets`."""
