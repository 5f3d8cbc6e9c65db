"""The project's own resources, executor, I/O manager and logger, under names that anybody may choose."""

import logging
from pathlib import Path

import dagster as dg

WAREHOUSE = "the project's"


class Lake(dg.ConfigurableResource[None]):
    folder: str

    def day(self, key: str) -> Path:
        return Path(self.folder) / f"date={key}" / "rows.parquet"


class TextFiles(dg.ConfigurableIOManager):
    folder: str

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        path = Path(self.folder) / "-".join([*context.asset_key.path, context.partition_key])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(obj))

    def load_input(self, context: dg.InputContext) -> str:
        return (Path(self.folder) / "-".join([*context.asset_key.path, context.partition_key])).read_text()


@dg.logger
def console(_context):
    return logging.getLogger("the project's")
