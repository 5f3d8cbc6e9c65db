"""The code version of a group, of labels and of on-demand features: what changes it, and what does not."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_store import DefinitionError, Entity, FeatureSchema, TrainingSet, feature, on_demand
from feature_store.definitions.fingerprint import code_version, libraries_of
from feature_store.definitions.group import feature_group
from feature_store.definitions.training_set import every_entity
from tests.orders import CUSTOMER, Orders, some_orders

PLAIN = """
    import functools
    import polars as pl
    import helpers
    from helpers import scaled as times
    from package.deep import deepest

    RATE = 2.0
    TABLE = {"a": [1, 2], "b": {"x", "y", "z"}}
    EXPRESSION = pl.col("amount") * 3
    FRAME = pl.DataFrame({"key": ["a", None], "weight": [1.0, 2.0]})

    class Base:
        def base(self):
            return 1

    class Model(Base):
        factor = 2

        def __init__(self, power):
            self.power = power

        def __call__(self, events):
            return events.with_columns(score=pl.col("amount") ** self.power * self.own() * self.factor)

        def own(self):
            return 5

        @staticmethod
        def still():
            return 6

        def method(self, events):
            return self(events)

    def decorated(function):
        @functools.wraps(function)
        def inner(*given):
            return function(*given) * 1
        return inner

    @decorated
    def wrapped(events):
        return events

    @functools.lru_cache
    def remembered(number):
        return number + 1

    def closure(captured):
        def transform(events, default=4, *, named=5):
            return events.with_columns(score=captured + default + named)
        return transform

    def bare(events, horizon):
        return events.head(horizon)

    def inside(events):
        from package import local
        import package.deep as deep
        return local.shift(events) + deep.deeper(events)

    def recursive(number):
        return number and recursive(number - 1) + other(number)

    def other(number):
        return recursive(number - 2)

    def transform(events):
        \"\"\"A score.\"\"\"
        # A comment.
        scores = times(pl.col("amount")) * helpers.factor() * RATE + deepest() + remembered(3)
        return wrapped(events.with_columns(score=scores + EXPRESSION).filter(TABLE["a"], len(FRAME)))

    def reading(events):
        return events.head(Model.factor)

    bound = Model(3).method
    callable_object = Model(3)
    partial = functools.partial(bare, horizon=7)
    captured = closure(1)
    first, second = (lambda events: events.head(1)), (lambda events: events.head(2))
    listed = [function for function in (transform, captured)]

    class Holder:
        def __init__(self):
            self.parts = {transform, captured, partial}

        def __call__(self, events):
            return events

    many = Holder()
"""
FILES = {
    "features.py": PLAIN,
    "helpers.py": """
        import polars as pl
        FEE = 3

        def factor():
            return FEE

        def scaled(column):
            return column * 10

        def unused():
            return 1
        """,
    "package/__init__.py": "",
    "package/deep.py": """
        from . import local

        def deeper(column):
            return column + local.DEPTH

        def deepest():
            return deeper(1)
        """,
    "package/local.py": """
        DEPTH = 7

        def shift(events):
            return events.shift(8)
        """,
}
NAMES = [
    *("transform", "bound", "callable_object", "partial", "captured", "first", "second", "inside", "recursive"),
    *("listed", "many"),
]


class Score(FeatureSchema):
    score: float = feature("A score")


def group(transform, schema=Score, lookback=timedelta(0)):
    made = feature_group(
        entity=CUSTOMER, source=Orders(some_orders()), schema=schema, owner="a@b.c", name="scores", lookback=lookback
    )
    return made(transform)


def versions(project, files=FILES):
    module = project.load(files)
    return {name: group(getattr(module, name)).code_version for name in NAMES}


def edited(old, new, file="features.py"):
    assert old in FILES[file]
    return {**FILES, file: FILES[file].replace(old, new)}


@pytest.mark.parametrize(
    ("changed", "file", "old", "new"),
    [
        ("transform", "features.py", "RATE = 2.0", "RATE = 2.5"),
        ("transform", "features.py", '"a": [1, 2]', '"a": [1, 3]'),
        ("transform", "features.py", '"z"}', '"w"}'),
        ("transform", "features.py", 'pl.col("amount") * 3', 'pl.col("amount") * 4'),
        ("transform", "features.py", '"weight": [1.0, 2.0]', '"weight": [1.0, 2.1]'),
        ("transform", "features.py", "return number + 1", "return number + 2"),
        ("transform", "features.py", "return function(*given) * 1", "return function(*given) * 2"),
        ("transform", "features.py", "(events):\n        return events", "(events):\n        return -events"),
        ("transform", "helpers.py", "FEE = 3", "FEE = 4"),
        ("transform", "helpers.py", "return FEE", "return -FEE"),
        ("transform", "helpers.py", "column * 10", "column * 11"),
        ("transform", "package/deep.py", "deeper(1)", "deeper(2)"),
        ("transform", "package/local.py", "DEPTH = 7", "DEPTH = 8"),
        ("inside", "package/local.py", "DEPTH = 7", "DEPTH = 8"),
        ("inside", "package/local.py", "shift(8)", "shift(9)"),
        ("bound", "features.py", "bound = Model(3)", "bound = Model(4)"),
        ("bound", "features.py", "return 5", "return 6"),
        ("bound", "features.py", "factor = 2", "factor = 3"),
        ("bound", "features.py", "return self(events)", "return -self(events)"),
        ("callable_object", "features.py", "callable_object = Model(3)", "callable_object = Model(4)"),
        ("callable_object", "features.py", "** self.power", "* self.power"),
        ("callable_object", "features.py", "base(self):\n            return 1", "base(self):\n            return 2"),
        ("partial", "features.py", "horizon=7", "horizon=14"),
        ("partial", "features.py", "events.head(horizon)", "events.tail(horizon)"),
        ("captured", "features.py", "closure(1)", "closure(2)"),
        ("captured", "features.py", "default=4", "default=40"),
        ("captured", "features.py", "named=5", "named=50"),
        ("first", "features.py", "head(1)", "head(3)"),
        ("second", "features.py", "head(2)", "head(3)"),
        ("recursive", "features.py", "number - 2", "number - 3"),
        ("listed", "features.py", "RATE = 2.0", "RATE = 2.5"),
        ("many", "features.py", "closure(1)", "closure(2)"),
    ],
)  # fmt: skip
def test_an_edit_of_what_a_function_uses_changes_its_version(project, changed, file, old, new):
    before, after = versions(project), versions(project, edited(old, new, file))
    assert after[changed] != before[changed]
    assert versions(project) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("features.py", "# A comment.", "# Another one,\n        # of two lines."),
        ("features.py", "A score.", "Another docstring."),
        ("features.py", "    RATE = 2.0", "    # More lines.\n\n\n    RATE = (\n        2.0\n    )"),
        ("features.py", "def transform(events):",
            "def transform(\n        events: pl.LazyFrame,\n    ) -> pl.LazyFrame:"),
        ("features.py", '"x", "y", "z"', '"z", "x", "y"'),
        ("features.py", "        def own(self):\n", '        def own(self):\n            """Five."""\n\n'),
        ("features.py", "first, second = (lambda events: events.head(1)),",
            "first, second = (lambda events: events . head( 1 )),"),
        ("helpers.py", "FEE = 3", "# Three.\n        FEE = 0x3"),
        ("helpers.py", "def unused():\n            return 1", "def unused():\n            return 2"),
        ("package/deep.py", "def deepest():\n", 'def deepest():\n            """The deepest."""\n'),
    ],
)  # fmt: skip
def test_comments_formatting_and_what_is_not_used_change_nothing(project, file, old, new):
    assert versions(project, edited(old, new, file)) == versions(project)


def test_a_helper_may_move_to_another_module(project):
    text = FILES["helpers.py"].replace("import polars as pl", "")
    moved = {
        **edited("import helpers\n    from helpers", "import tools as helpers\n    from tools"),
        "tools.py": text,
    }
    moved.pop("helpers.py")
    assert versions(project, moved) == versions(project)


def test_values_differ_between_functions_of_one_text(project):
    module = project.load(FILES)
    found = [module.closure(1), module.closure(2), module.Model(1).method, module.Model(2).method]
    assert len({group(transform).code_version for transform in found}) == 4
    assert group(module.closure(1)).code_version == group(module.closure(1)).code_version


@pytest.mark.slow
def test_every_process_gives_the_same_versions(project):
    here = versions(project)
    script = """
        import sys
        sys.path[:0] = [{root!r}, {checkout!r}]
        from tests.definitions import test_code_version as test
        import features
        print({{name: test.group(getattr(features, name)).code_version for name in test.NAMES}})
    """
    text = textwrap.dedent(script).format(root=str(project.root), checkout=str(Path.cwd()))
    env = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(here)


def test_a_project_that_is_installed_among_libraries_is_the_same(project, tmp_path, monkeypatch):
    here = versions(project)
    folder = tmp_path / "venv" / "site-packages"
    monkeypatch.syspath_prepend(folder)
    project.root.rename(tmp_path / "away")
    from tests.definitions.projects import Project

    installed = Project(folder)
    inner = {f"app/{name}": text for name, text in FILES.items()}
    inner["app/__init__.py"] = ""
    inner["app-1.0.dist-info/METADATA"] = "Name: app\nVersion: 1.0\nRequires-Dist: feature-store>=1\n"
    inner["app/features.py"] = (
        inner["app/features.py"]
        .replace("import helpers", "from app import helpers")
        .replace("from helpers", "from app.helpers")
        .replace("from package", "from app.package")
        .replace("import package.deep", "import app.package.deep")
    )
    try:
        module = installed.load(inner, "app.features")
        for name in ("transform", "bound", "callable_object", "partial", "captured", "first", "many"):
            assert group(getattr(module, name)).code_version == here[name], name
        inner["app/helpers.py"] = inner["app/helpers.py"].replace("FEE = 3", "FEE = 4")
        assert group(installed.load(inner, "app.features").transform).code_version != here["transform"]
    finally:
        installed.forget()


def test_a_name_that_stands_for_another_object_is_seen_at_once(project):
    module = project.load(FILES)
    scores = group(module.transform)
    before = scores.code_version
    assert scores.code_version == before
    module.RATE = 5.0
    changed = scores.code_version
    assert changed != before
    module.helpers.factor = lambda: 8
    again = scores.code_version
    assert again not in {before, changed}
    bound = group(module.reading)
    before = bound.code_version
    module.Model.factor = 9
    assert bound.code_version != before


def test_the_version_of_code_that_runs_is_told_not_that_of_a_file_edited_since(project):
    module = project.load(FILES)
    before = group(module.transform).code_version
    edited_file = FILES["features.py"].replace("# A comment.", "# One.\n        # Two.")
    (project.root / "features.py").write_text(textwrap.dedent(edited_file))
    code_version.__globals__["_known"].clear()
    assert group(module.transform).code_version == before
    (project.root / "features.py").write_text(textwrap.dedent(FILES["features.py"]).replace("* RATE", "/ RATE"))
    code_version.__globals__["_known"].clear()
    stale = group(module.transform).code_version
    project.forget()
    import features

    assert stale != group(features.transform).code_version


def test_code_without_a_source_has_a_version_as_well():
    def made(text, **names):
        namespace = {"pl": pl, **names}
        exec(text, namespace)
        return group(namespace["f"]).code_version

    text = "def f(events):\n    return events.head(LIMIT)\n"
    assert made(text, LIMIT=1) == made("\n\n" + text, LIMIT=1)
    assert made(text, LIMIT=1) != made(text, LIMIT=2)
    assert made(text, LIMIT=1) != made(text.replace("head", "tail"), LIMIT=1)


def test_libraries_are_told_beside_the_version(project):
    module = project.load(FILES)
    assert libraries_of(module.transform) == {"polars": pl.__version__}
    assert group(module.transform).libraries == {"polars": pl.__version__}
    project.forget()
    text = "import uuid\nfrom msgspec import json\n\ndef transform(events):\n    return json.encode(uuid.uuid4())\n"
    assert list(libraries_of(project.load({"features.py": text}).transform)) == ["msgspec"]


def test_what_a_library_does_is_not_part_of_the_version(project, tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    text = "import library\nfrom library import times\n\ndef transform(events):\n    return times(library.RATE)\n"
    found = set()
    for rate in (1, 2):
        sys.modules.pop("library", None)
        (folder / "library.py").write_text(f"RATE = {rate}\n\ndef times(rate):\n    return rate * {rate}\n")
        found.add(group(project.load({"features.py": text}).transform).code_version)
    sys.modules.pop("library", None)
    assert len(found) == 1


def test_a_library_may_be_installed_in_any_folder(project, tmp_path, monkeypatch):
    """As by `pip install --target`: the record of its files says that it is one."""
    folder = tmp_path / "packages"
    (folder / "targeted-1.0.dist-info").mkdir(parents=True)
    (folder / "targeted-1.0.dist-info" / "METADATA").write_text("Name: targeted\nVersion: 1.0\n")
    (folder / "targeted-1.0.dist-info" / "RECORD").write_text("targeted.py,,\n")
    monkeypatch.syspath_prepend(folder)
    text = "import targeted\n\ndef transform(events):\n    return targeted.times(targeted.RATE)\n"
    found = set()
    for rate in (1, 2):
        sys.modules.pop("targeted", None)
        (folder / "targeted.py").write_text(f"RATE = {rate}\n\ndef times(rate):\n    return rate * {rate}\n")
        found.add(group(project.load({"features.py": text}).transform).code_version)
    sys.modules.pop("targeted", None)
    assert len(found) == 1


def test_what_has_no_lasting_form_is_an_error_that_names_it(project):
    text = """
        import socket
        import threading
        import logging

        LOGGER = logging.getLogger(__name__)
        LOCK = threading.Lock()
        HOLDER = {"connection": SOMETHING}

        def helper():
            return HOLDER

        def transform(events):
            with LOCK:
                LOGGER.info("Here.")
            return helper()
    """
    fine = project.load({"features.py": text.replace("SOMETHING", "1")}).transform
    assert group(fine).code_version
    module = project.load({"features.py": text.replace("SOMETHING", "(each for each in ())")})
    with pytest.raises(
        DefinitionError, match=r"'scores': .*helper\(\) -> HOLDER -> \['connection'\] holds a generator"
    ):
        _ = group(module.transform).code_version


def test_look_back_and_rules_of_the_schema_are_part_of_a_groups_version(project):
    transform = project.load(FILES).transform

    def version(text="", description="A score", lookback=timedelta(0), **rules):
        namespace = {"FeatureSchema": FeatureSchema, "feature": feature, "rules": rules, "description": description}
        exec(f"class Score(FeatureSchema):\n    score: float = feature(description, **rules)\n{text}", namespace)
        return group(transform, namespace["Score"], lookback).code_version

    assert version() == version(description="Other words", tags={"a": "b"}, ttl=timedelta(days=3))
    found = [
        version(), version(ge=0), version(ge=1), version(gt=0), version(nullable=False), version(isin=[1.0]),
        version(lookback=timedelta(days=1)),
    ]  # fmt: skip
    assert len(set(found)) == len(found)


def test_checks_that_a_user_writes_are_part_of_a_groups_version(project):
    text = """
        import pandera.polars as pandera
        from feature_store import FeatureSchema, feature
        LIMIT = 5

        class Score(FeatureSchema):
            score: float = feature("A score")

            @pandera.check("score")
            def low(cls, data):
                return data.lazyframe.select(pandera.pl.col(data.key) < LIMIT)
    """

    def version(text):
        schema = project.load({"features.py": text}).Score
        return group(same, schema).code_version

    assert version(text) == version(text.replace("A score", "Another text"))
    assert version(text) != version(text.replace("LIMIT = 5", "LIMIT = 6"))
    assert version(text) != version(text.replace("< LIMIT", "> LIMIT"))


def same(events):
    return events


def test_labels_and_on_demand_features_are_told_in_the_same_way(project):
    text = """
        import polars as pl
        SHARE = 2

        def labels(days=1):
            return pl.LazyFrame({"days": [days]}) if SHARE else None

        def share(amount_3d, basket):
            return {"score": basket / amount_3d * SHARE}
    """

    def found(text, inputs=("amount_3d",)):
        module = project.load({"features.py": text})
        training_set = TrainingSet("churn", module.labels, ["score"], "a@b.c")
        made = on_demand(inputs=inputs, request={"basket": float}, schema=Score, owner="a@b.c", name="sharing")
        return training_set.labels_code_version, made(module.share).code_version

    labels, computed = found(text)
    assert found(text.replace("share(amount_3d,", "share( amount_3d ,")) == (labels, computed)
    other_labels, other_computed = found(text.replace("SHARE = 2", "SHARE = 3"))
    assert other_labels != labels
    assert other_computed != computed
    assert found(text.replace("days=1", "days=2"))[1] == computed
    assert found(text.replace("days=1", "days=2"))[0] != labels


def test_what_lies_in_a_captured_source_is_data():
    def version(events, name="orders"):
        source = Orders(events)
        source.name = name
        return code_version(lambda: source.events.lazy().head(9)), code_version(lambda: source.scan(None))

    assert version(some_orders(3)) == version(some_orders(4))
    assert version(some_orders(3)) != version(some_orders(3), "others")


def test_labels_of_every_entity_are_told_by_the_query():
    def version(start, description=""):
        entity = Entity("customer", {"customer": str}, description)
        return TrainingSet("churn", every_entity(entity, start=start), ["score"], "a@b.c").labels_code_version

    assert version(datetime(2024, 1, 1)) == version(datetime(2024, 1, 1), "A customer.")
    assert version(datetime(2024, 1, 1)) != version(datetime(2024, 1, 2))


KINDS = """
    import collections, dataclasses, enum, functools, re, typing
    import numpy as np
    import other

    class Color(enum.Enum):
        RED = 1
        BLUE = 2

    Pair = collections.namedtuple("Pair", "first second")
    PAIR, PATTERN, WEIGHTS = Pair(3, 4), re.compile("a+"), np.array([5.0, 6.0])

    @dataclasses.dataclass
    class Settings:
        rate: float = 7.0
        url: str = "redis://here"

        @functools.cached_property
        def double(self):
            return self.rate * 2

    SETTINGS = Settings()

    @functools.singledispatch
    def by_kind(value):
        return 8

    @by_kind.register
    def _(value: int):
        return 9

    def member(events): return Color.RED
    def pair(events): return PAIR.first, PATTERN, WEIGHTS
    def attribute(events): return SETTINGS.rate
    def computed(events): return SETTINGS.double
    def dispatched(events): return by_kind(events)
    def whole_module(events): return getattr(other, "helper")()
    def local_class(number):
        class Local:
            def __init__(self): self.number = number
        return lambda events: Local().number
    made = local_class(10)
"""
OTHER = "LIMIT = 11\n\ndef helper():\n    return LIMIT\n"


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("RED = 1", "RED = 12", {"member"}),
        ("Pair(3, 4)", "Pair(12, 4)", {"pair"}),
        ("a+", "b+", {"pair"}),
        ("5.0", "12.0", {"pair"}),
        ("rate: float = 7.0", "rate: float = 12.0", {"attribute", "computed"}),
        ("redis://here", "redis://there", {"computed"}),
        ("self.rate * 2", "self.rate * 12", {"computed"}),
        ("return 9", "return 12", {"dispatched"}),
        ("LIMIT = 11", "LIMIT = 12", {"whole_module"}),
        ("local_class(10)", "local_class(12)", {"made"}),
        ("self.number = number", "self.number = -number", {"made"}),
    ],
)
def test_values_of_many_kinds(project, old, new, changed):
    def found(*edit):
        texts = {"features.py": KINDS.replace(*edit), "other.py": OTHER.replace(*edit)}
        module = project.load(texts)
        module.SETTINGS.double  # noqa: B018 - what is remembered of a computation is no part of a version
        names = ("member", "pair", "attribute", "computed", "dispatched", "whole_module", "made")
        return {name: code_version(getattr(module, name)) for name in names}

    before, after = found("RED = 1", "RED = 1"), found(old, new)
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.slow
def test_threads_may_ask_at_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    names = [f"asked_at_once_{number}" for number in range(64)]
    for number, name in enumerate(names):
        steps = "".join(
            f"    total += (value * {step} + {number}) ** 2 if value > {step} else -value\n" for step in range(150)
        )
        (tmp_path / f"{name}.py").write_text(f"def asked(value):\n    total = 0\n{steps}    return total\n")
    functions = [importlib.import_module(name).asked for name in names]
    # The collector's callbacks let other threads in while a tree is made.
    pause = lambda *_: time.sleep(0.0001)  # noqa: E731
    threshold = gc.get_threshold()
    gc.callbacks.append(pause)
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(8) as threads:
            versions = list(threads.map(code_version, functions))
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(pause)
    assert len(set(versions)) == len(names)
