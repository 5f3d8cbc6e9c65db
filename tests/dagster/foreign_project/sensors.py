"""The project's own sensor, and jobs that are called as those of the feature store would be without their prefix."""

import dagster as dg

everything = dg.define_asset_job("features", selection=dg.AssetSelection.all())


@dg.op
def look():
    return 1


@dg.job
def freshness():
    look()


@dg.sensor(job=freshness)
def landing_sensor():
    return dg.SkipReason("Nothing.")
