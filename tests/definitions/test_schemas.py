"""A schema is known without pandera as it is with it: the names that it refuses, its features, its rules."""

import polars as pl
import pytest

from feature_store.definitions.rules import column_rules, rules_version
from feature_store.definitions.schema import NAMES_OF_MODELS, Embedding, FeatureSchema, feature
from feature_store.definitions.schema_library import SchemaError, pandera
from feature_store.errors import DefinitionError


class Visit(FeatureSchema):
    """A visit."""

    pages: int = feature("Pages.", ge=1, lt=1000, nullable=False)
    share: float = feature("A share.", gt=-0.5, le=1.0)
    country: str = feature("Where from.", isin=["DE", "FR"])
    profile: Embedding = feature("What they like.", dimension=2)


class Purchase(Visit):
    """A visit that ends well."""

    amount: float = feature("What was paid.", ge=0)


def with_a_method(schema: type[FeatureSchema]) -> type[FeatureSchema]:
    """The same schema, which holds more than features: pandera is asked for its rules."""
    return type(schema.__name__, (schema,), {"_helper": lambda: None, "__module__": __name__})


@pytest.mark.parametrize("schema", [Visit, Purchase])
def test_rules_are_told_as_pandera_has_them(schema):
    asked = with_a_method(schema)
    assert column_rules(asked) == column_rules(schema)
    assert rules_version(asked) == rules_version(schema)
    checks = {name: tuple(map(str, column.checks)) for name, column in schema.to_schema().columns.items()}
    assert {name: len(rules.texts) for name, rules in column_rules(schema).items()} == {
        name: len(found) for name, found in checks.items()
    }


def test_all_rules_of_features_are_there():
    assert {name: (rules.nullable, *rules.texts) for name, rules in column_rules(Purchase).items()} == {
        "pages": (False, "greater_than_or_equal_to(1)", "less_than(1000)"),
        "share": (True, "greater_than(-0.5)", "less_than_or_equal_to(1.0)"),
        "country": (True, "isin(['DE', 'FR'])"),
        "profile": (True,),
        "amount": (True, "greater_than_or_equal_to(0)"),
    }


def test_an_inherited_schema_is_validated_whole():
    row = {"pages": 1, "share": 0.5, "country": "DE", "profile": [0.0, 1.0], "amount": 2.0}
    types = {"profile": pl.Array(pl.Float32, 2)}
    assert Purchase.validate(pl.DataFrame([row], schema_overrides=types)).height == 1
    for wrong in [{"pages": 0}, {"amount": -1.0}, {"country": "IT"}]:
        with pytest.raises(SchemaError):
            Purchase.validate(pl.DataFrame([row | wrong], schema_overrides=types))


def test_a_check_of_the_users_own_is_inherited_and_validated():
    class Even(Visit):
        @pandera.check("pages")
        def even(cls, data):  # noqa: N805 - pandera's way
            return data.lazyframe.select(pl.col(data.key) % 2 == 0)

    class Later(Even):
        again: int = feature("Once more.")

    row = {"pages": 2, "share": 0.5, "country": "DE", "profile": [0.0, 1.0], "again": 1}
    types = {"profile": pl.Array(pl.Float32, 2)}
    assert Later.validate(pl.DataFrame([row], schema_overrides=types)).height == 1
    with pytest.raises(SchemaError, match="even"):
        Later.validate(pl.DataFrame([row | {"pages": 3}], schema_overrides=types))
    assert column_rules(Later)["pages"].texts[-1] == "even"


def test_a_feature_of_a_class_is_its_name():
    assert (Purchase.pages, Purchase.amount) == ("pages", "amount")


def test_what_pandera_calls_its_own_is_refused():
    assert {name for name in dir(pandera.DataFrameModel) if not name.startswith("_")} == NAMES_OF_MODELS


@pytest.mark.parametrize("body", [{"LIMIT": 5}, {"score": feature("A score.")}], ids=["constant", "no type"])
def test_what_is_no_feature_and_no_method_is_named(body):
    schema = type("Score", (FeatureSchema,), {"__annotations__": {"other": int}, "other": feature("One."), **body})
    with pytest.raises(DefinitionError, match=r"Score\.(LIMIT|score) is annotated with no type"):
        schema.specs()


def test_a_field_of_panderas_is_no_feature():
    schema = type("Score", (FeatureSchema,), {"__annotations__": {"score": int}, "score": pandera.Field(ge=1)})
    with pytest.raises(DefinitionError, match=r"Score\.score is not declared with feature"):
        schema.specs()
