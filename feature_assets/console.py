"""A quiet console logger: one line per thing that a person at a terminal wants to know."""

import logging

import dagster as dg


class _Brief(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Lets through the messages of assets, and failures; not Dagster's bookkeeping."""
        details = getattr(record, "dagster_meta", None) or {}
        is_event = details.get("dagster_event") is not None if isinstance(details, dict) else False
        return not is_event or record.levelno >= logging.ERROR


class _MessageOnly(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Returns the message that the asset logged, without Dagster's prefix."""
        details = getattr(record, "dagster_meta", None) or {}
        message = details.get("orig_message") if isinstance(details, dict) else None
        return f"  {message or record.getMessage()}"


@dg.logger(None, description="One line per message of an asset.")
def brief_console(_context: dg.InitLoggerContext) -> logging.Logger:
    """Returns the logger of the demo's runs."""
    logger = logging.Logger("feature_store", level=logging.INFO)  # noqa: LOG001 - of this run alone
    handler = logging.StreamHandler()
    handler.addFilter(_Brief())
    handler.setFormatter(_MessageOnly())
    logger.addHandler(handler)
    return logger
