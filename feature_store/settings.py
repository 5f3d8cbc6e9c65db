"""Settings: from the environment and a `.env` file beside it, never from anywhere else.

The fields of `Settings` are the one table of them. What reads, lists, documents or hands on settings is derived from
it: `Settings.from_env`, `feature-store doctor`, `feature-store --help`, `docs/settings.md`, the Dagster resource.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from dotenv import dotenv_values

from feature_store.errors import SettingsError, did_you_mean
from feature_store.setting_urls import masked

EMBEDDED_FOLDER = Path(".feature_store")
PREFIX = "FEATURE_STORE_"

Shown = Literal["as it is", "without credentials", "never"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: Its field of `Settings`.
        help: What it names, for people.
        unset: What it means that the variable is not set, or set to nothing.
        example: A value as one would write it.
        parse: Makes a value of text; raises `ValueError`.
        shown: How the value may be shown.
        is_family: Whether it is a family of variables that begin with `variable`, and its value a mapping.
    """

    name: str
    help: str
    unset: str
    example: str
    parse: Callable[[str], Any]
    shown: Shown
    is_family: bool

    @property
    def variable(self) -> str:
        """The environment variable; of a family, what their names begin with."""
        return f"{PREFIX}KAFKA_" if self.is_family else f"{PREFIX}{self.name.upper()}"

    @property
    def title(self) -> str:
        """The variable as documents write it."""
        return f"{self.variable}<OPTION>" if self.is_family else self.variable

    def read(self, environ: Mapping[str, str]) -> Any:
        """Returns the value that variables give, None where they give none.

        Raises:
            SettingsError: If a value cannot be read.
        """
        if self.is_family:
            return {
                name.removeprefix(self.variable).lower().replace("_", "."): value
                for name, value in environ.items()
                if name.startswith(self.variable)
            }
        text = environ.get(self.variable)
        return self.value(text) if text else None

    def value(self, text: str) -> Any:
        """Returns the value that a text stands for.

        Raises:
            SettingsError: If it stands for none. The text is shown unless it may be a secret.
        """
        try:
            return self.parse(text)
        except ValueError:
            given = self.variable if self.shown == "never" else f"{self.variable}={text!r}"
            kind = "number" if self.parse in (int, float) else "valid value"
            raise SettingsError(f"{given} is not a {kind}: write one such as {self.example}, or unset it.") from None

    def variables(self, value: Any) -> dict[str, str]:
        """Returns the variables that give a value; none for None."""
        if self.is_family:
            return {f"{self.variable}{key.upper().replace('.', '_')}": text for key, text in (value or {}).items()}
        return {} if value is None else {self.variable: str(value)}

    def display(self, value: Any) -> str:
        """Returns a value for people, without secrets."""
        if value is None or value == {}:
            return f"unset: {self.unset}"
        if self.is_family:
            return ", ".join(sorted(value))
        if self.shown == "never":
            return "set, not shown"
        text = str(value)
        if self.shown == "as it is" or text.startswith("sqlite:"):
            return text
        return masked(text)


def _setting(
    text: str,
    *,
    unset: str,
    example: str,
    default: Any = None,
    parse: Callable[[str], Any] = str,
    shown: Shown = "as it is",
    is_family: bool = False,
) -> Any:
    about = {"help": text, "unset": unset, "example": example, "parse": parse, "shown": shown, "is_family": is_family}
    if callable(default):
        return field(default_factory=default, metadata=about, repr=shown == "as it is")
    return field(default=default, metadata=about, repr=shown == "as it is")


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise ValueError(text) from None


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the store keeps things, and how it is reached; each field is one setting, see `settings`."""

    offline: str = _setting(
        "Offline store: a folder, or `s3://bucket/prefix`.",
        default=lambda: str(embedded_folder().resolve() / "offline"),
        unset="a folder in `.feature_store`",
        example="s3://bucket/prefix",
    )
    online: str | None = _setting(
        "Online store: URL of Redis or Valkey.",
        unset="the embedded server",
        example="redis://localhost:6379/0",
        shown="without credentials",
    )
    registry: str = _setting(
        "Registry: SQLAlchemy URL of SQLite or PostgreSQL.",
        default=lambda: f"sqlite:///{embedded_folder().resolve() / 'registry.db'}",
        unset="SQLite in `.feature_store`",
        example="postgresql://user@localhost/features",
        shown="without credentials",
    )
    engine: str = _setting(
        "Engine of point-in-time reads: `sweep`, `duckdb`, `auto` for the cheaper of the two, or `spark`, which also "
        "materializes.",
        default="auto",
        unset="`auto`",
        example="duckdb",
    )
    clock: str | None = _setting(
        "The store's present: `system`, or an ISO timestamp at which it stands, to replay history.",
        unset="the wall clock",
        example="2014-01-02T00:00:00Z",
    )
    definitions: str | None = _setting(
        "Python module of your feature groups, training sets, on-demand features and services.",
        unset="none; the command line takes `--definitions`, Dagster the module of its code location",
        example="my_team.features",
    )
    kafka: str | None = _setting("Bootstrap servers of Kafka.", unset="no streams", example="localhost:9092")
    kafka_options: Mapping[str, str] = _setting(
        "An option of the Kafka client, `_` for `.`: `FEATURE_STORE_KAFKA_SASL_PASSWORD` is `sasl.password`.",
        default=dict,
        unset="the client's own",
        example="SASL_SSL",
        shown="never",
        is_family=True,
    )
    stream_state: str = _setting(
        "Folder by which the streamers of a machine are numbered.",
        default=lambda: str(embedded_folder().resolve() / "streams"),
        unset="a folder in `.feature_store`",
        example="/var/lib/feature-store/streams",
    )
    spark_conf: str | None = _setting(
        "Settings of a Spark application that is started: words of `spark.<name>=<value>`.",
        unset="Spark's own",
        example="spark.master=local[4] spark.driver.memory=8g",
        shown="never",
    )
    request_log: str | None = _setting(
        "Folder that keeps a sample of what was served.", unset="no log", example="/var/log/feature-store"
    )
    request_log_rate: float = _setting(
        "Share of requests that the log keeps, above 0, up to 1.",
        default=0.01,
        unset="0.01",
        example="0.05",
        parse=float,
    )
    request_log_mb: int = _setting(
        "Size of the log in MiB beyond which its oldest files go.", default=256, unset="256", example="1024", parse=int
    )
    server_tokens: str | None = _setting(
        "Who may do what at the feature server: JSON, or the path of a file with it.",
        unset="anyone may read",
        example="/etc/feature-store/tokens.json",
        shown="never",
    )
    alert_webhook: str | None = _setting(
        "URL that gets each alert as JSON.", unset="not used", example="https://example.com/alerts", shown="never"
    )
    alert_slack: str | None = _setting(
        "URL of an incoming webhook of Slack that gets each alert.",
        unset="not used",
        example="https://hooks.slack.com/services/T0/B0/X",
        shown="never",
    )
    alert_email: str | None = _setting(
        "Addresses that get each alert, separated by commas.", unset="not used", example="team@example.com"
    )
    smtp: str | None = _setting(
        "Mail server that sends alerts.",
        unset="no mail",
        example="smtp://user@mail.example.com:587?from=alerts@example.com",
        shown="never",
    )
    ui_url: str | None = _setting(
        "Base URL of the Dagster page, for links in alerts.", unset="no links", example="https://dagster.example.com"
    )
    asset_key_prefix: str | None = _setting(
        "What stands before the keys of assets in Dagster, parts separated by `/`.",
        unset="nothing",
        example="features",
    )
    automation: bool = _setting(
        "Whether the sensors and schedules of the Dagster project run from the start; each can be switched in the UI.",
        default=True,
        unset="yes",
        example="no",
        parse=_flag,
    )
    debug: bool = _setting(
        "Whether the command line shows the traceback of an error.",
        default=False,
        unset="no",
        example="1",
        parse=_flag,
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads `FEATURE_STORE_*` from the environment, else from `.env` in the working directory.

        Args:
            environ: Read instead of the environment and the file, if given.

        Raises:
            SettingsError: If a value cannot be read.
        """
        if environ is None:
            environ = environment()
        given = {setting.name: setting.read(environ) for setting in settings()}
        return cls(**{name: value for name, value in given.items() if value is not None})

    def overridden(self, overrides: Mapping[str, Any]) -> Self:
        """Returns these settings with others in place of some.

        Args:
            overrides: Values by name of the setting, `offline` or `request_log_rate`. Texts are read as those of
                variables are; None and the empty text change nothing.

        Raises:
            SettingsError: If there is no setting of a name, or a value cannot be read.
        """
        known = {setting.name: setting for setting in settings()}
        given = {}
        for name, value in overrides.items():
            if name not in known:
                raise SettingsError(f"There is no setting {name!r}. {did_you_mean(name, known)}")
            if value is None or value == "":
                continue
            given[name] = known[name].value(value) if isinstance(value, str) else value
        return dataclasses.replace(self, **given)

    def variables(self) -> dict[str, str]:
        """Returns the variables by which another process gets these settings, secrets among them."""
        found: dict[str, str] = {}
        for setting in settings():
            found |= setting.variables(getattr(self, setting.name))
        return found


def settings() -> tuple[Setting, ...]:
    """Returns all settings, in the order in which they are listed."""
    return tuple(Setting(name=each.name, **each.metadata) for each in fields(Settings))


def listing() -> str:
    """Returns the variables and what they name, a line each, for a terminal."""
    width = max(len(each.title) for each in settings())
    return "\n".join(f"{each.title:{width}}  {each.help.removesuffix('.').replace('`', '')}" for each in settings())


def environment() -> dict[str, str]:
    """Returns the variables of the environment, and those of `.env` in the working directory that it does not set."""
    from_file = {key: value for key, value in dotenv_values(".env").items() if value is not None}
    return {**from_file, **os.environ}


def embedded_folder() -> Path:
    """Returns the folder of the embedded parts: `.feature_store` in the working directory."""
    return EMBEDDED_FOLDER


def contradictions() -> list[str]:
    """Returns the names of variables that the environment and `.env` in the working directory set differently."""
    from_file = dotenv_values(".env")
    return sorted(name for name, value in from_file.items() if os.environ.get(name, value) != value)
