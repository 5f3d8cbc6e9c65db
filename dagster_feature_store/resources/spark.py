"""Spark jobs as a resource: how a run launches one, through Pipes."""

import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg


class SparkJobsResource(dg.ConfigurableResource[None]):
    """Launches Spark jobs as processes of this machine; `spark.master` says where their tasks run.

    A subclass that overrides `launch` runs the driver elsewhere: on EMR, Databricks, Kubernetes; see `docs/spark.md`.

    Attributes:
        python: The Python that runs the job; that of this process where empty.
        definitions: Module that defines the groups; where empty, what `FEATURE_STORE_DEFINITIONS` names, else the
            module of each group's function.
        conf: Settings of Spark, as in `FEATURE_STORE_SPARK_CONF`; where empty, what that variable says.
    """

    python: str = ""
    definitions: str = ""
    conf: str = ""

    def launch(
        self, context: dg.AssetExecutionContext, module: str, environment: Mapping[str, str], extras: dict[str, Any]
    ) -> dg.PipesClientCompletedInvocation:
        """Runs a job to its end; its logs are shown in the run.

        Args:
            context: Of the run.
            module: Python module of the job.
            environment: Variables that the job needs, besides those of this process.
            extras: What the job is told.

        Returns:
            The invocation, with the messages of the job.
        """
        given = {"FEATURE_STORE_SPARK_CONF": self.conf} if self.conf else {}
        client = dg.PipesSubprocessClient(env={**environment, **given})
        return client.run(context=context, command=[self.python or sys.executable, "-m", module], extras=extras)
