"""On-demand features through the facade: online answers and training sets hold the same bits."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from types import ModuleType

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feature_store.definitions.dtypes import embedding
from feature_store.definitions.feature_service import FeatureService
from feature_store.definitions.loading import load_definitions
from feature_store.definitions.on_demand import on_demand
from feature_store.definitions.schema import Embedding, FeatureSchema, Timestamp, feature
from feature_store.definitions.training_set import TrainingSet
from feature_store.errors import DefinitionError, InvalidRequestError, UnknownFeatureError
from feature_store.store import FeatureStore
from tests.orders import Orders, some_orders, spending

WHEN = datetime(2024, 3, 9, 12, tzinfo=UTC)


class Basket(FeatureSchema):
    share_of_3d: float = feature("The basket as a share of the amount of 3 days")
    share_of_3d_v2: float = feature("The same, in percent, at most 100")
    is_first: bool = feature("Whether there was no order in 3 days")


@on_demand(inputs=["amount_3d", "orders_3d:v1"], request={"basket": float}, schema=Basket, owner="team@example.com")
def basket_shares(amount_3d: pl.Expr, orders_3d: pl.Expr, basket: pl.Expr) -> dict[str, pl.Expr]:
    """How a basket compares to what was spent of late."""
    share = basket / 3.7 / amount_3d
    return {
        "share_of_3d": share,
        "share_of_3d_v2": (share * 100).clip(upper_bound=100),
        "is_first": orders_3d.fill_null(0) == 0,
    }


def everything(name="shop", **more) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(spending=spending(Orders(some_orders())), basket_shares=basket_shares, **more)
    return module


@pytest.fixture
def shop(open_store, store):
    module = everything(checkout=FeatureService("checkout", ["amount_3d", "basket_shares"]))
    store.apply([module.spending])
    own = FeatureStore(store.offline, store.online, store.registry, store.clock, definitions=module)
    rows = [
        {
            "customer": f"c{number}",
            "event_timestamp": WHEN,
            "orders_3d": number + 1,
            "amount_3d": amount,
            "last_amount": 1,
        }
        for number, amount in enumerate([10, 0, None, 7_777_777])
    ]
    own.ingest(module.spending, pl.DataFrame(rows))
    return own


def bits(value):
    return struct.pack("<d", value) if isinstance(value, float) else value


def test_an_on_demand_feature_is_read_like_a_stored_one(shop):
    answer = shop.get_online_features(
        "c0", ["share_of_3d:v1", "orders_3d", "is_first", "share_of_3d"], request_data={"basket": 37}
    )
    assert answer == {
        "share_of_3d:v1": pytest.approx(1),
        "orders_3d": 1,
        "is_first": False,
        "share_of_3d": pytest.approx(100),
    }
    assert list(answer) == ["share_of_3d:v1", "orders_3d", "is_first", "share_of_3d"]
    assert shop.get_online_features("nobody", ["basket_shares"], request_data={"basket": None}) == {
        "share_of_3d:v1": None,
        "share_of_3d": None,
        "is_first": True,
    }


def test_a_feature_service_stands_for_its_features(shop):
    service = shop.definitions.service("checkout")
    online = shop.get_online_features_batch(["c0", "c3"], service, request_data={"basket": [1.5, 2]})
    assert list(online[0]) == ["amount_3d", "share_of_3d:v1", "share_of_3d", "is_first"]
    labels = pl.DataFrame({"customer": ["c0", "c3"], "event_timestamp": [WHEN] * 2, "basket": [1.5, 2.0]})
    assert shop.training_set(labels, service).select(online[0].keys()).to_dicts() == online
    with pytest.raises(UnknownFeatureError, match="checkout"):
        shop.definitions.service("chekout")


NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**53), 2**53)


@given(
    baskets=st.lists(st.tuples(st.sampled_from(["c0", "c1", "c2", "c3", "nobody"]), NUMBERS), min_size=1, max_size=9)
)
@example(baskets=[("c0", 0.37)])
@example(baskets=[("c0", 0.37)] * 5)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_online_and_training_give_the_same_bits(shop, baskets):
    features = ["share_of_3d", "share_of_3d:v1", "is_first", "amount_3d"]
    customers, amounts = [customer for customer, _ in baskets], [amount for _, amount in baskets]
    labels = pl.DataFrame({"customer": customers, "event_timestamp": [WHEN] * len(baskets)}).with_columns(
        pl.Series("basket", [None if amount is None else float(amount) for amount in amounts], pl.Float64)
    )
    trained = shop.training_set(labels, features).select(features).rows()
    batch = shop.get_online_features_batch(customers, features, request_data={"basket": amounts})
    alone = [
        shop.get_online_features(customer, features, request_data={"basket": amount}) for customer, amount in baskets
    ]
    for row, together, single in zip(trained, batch, alone, strict=True):
        assert [*map(bits, row)] == [*map(bits, together.values())] == [*map(bits, single.values())]


def test_reads_of_the_past_take_request_data_too(shop):
    baskets = [1.25, None, 7.0]
    asked = ["c0", "c1", "c0"], ["basket_shares", "amount_3d"]
    past = shop.get_offline_features(*asked, [shop.clock.now()] * 3, request_data={"basket": baskets})
    online = shop.get_online_features_frame(*asked, request_data={"basket": baskets})
    assert past.drop("as_of_timestamp").equals(online)
    with pytest.raises(InvalidRequestError, match="basket"):
        shop.get_offline_features(*asked, [shop.clock.now()] * 3)


def test_a_column_of_one_repeated_value_gives_the_same_bits(shop):
    for step in range(1, 60):
        basket = step * 0.37
        labels = pl.DataFrame({"customer": ["c0"] * 4, "event_timestamp": [WHEN] * 4})
        trained = shop.training_set(labels.with_columns(basket=pl.lit(basket)), ["share_of_3d:v1"])
        online = shop.get_online_features("c0", ["share_of_3d:v1"], request_data={"basket": basket})
        assert bits(trained["share_of_3d:v1"][0]) == bits(online["share_of_3d:v1"])


def test_a_label_frame_in_many_chunks_gives_the_same_bits(shop):
    labels = pl.DataFrame({"customer": ["c0"], "event_timestamp": [WHEN], "basket": [0.37]})
    trained = shop.training_set(pl.concat([labels] * 20, rechunk=False), ["share_of_3d:v1"])
    online = shop.get_online_features("c0", ["share_of_3d:v1"], request_data={"basket": 0.37})
    assert set(map(bits, trained["share_of_3d:v1"])) == {bits(online["share_of_3d:v1"])}


def test_label_columns_stay_untouched_and_request_data_of_other_widths_are_read(shop):
    labels = pl.DataFrame(
        {
            "customer": ["c0", "c1"],
            "event_timestamp": [WHEN] * 2,
            "basket": pl.Series([37, 5], dtype=pl.Int16),
            "x": [1, 2],
        }
    )
    trained = shop.training_set(labels.to_arrow(), ["share_of_3d:v1"])
    assert trained.columns == [*labels.columns, "share_of_3d:v1"]
    assert trained.select(labels.columns).equals(labels.with_columns(pl.col("event_timestamp")))
    assert trained["share_of_3d:v1"].to_list() == [pytest.approx(1), float("inf")]
    assert shop.training_set(labels.clear(), ["basket_shares"]).height == 0
    assert shop.get_online_features_batch([], ["basket_shares"], request_data={"basket": []}) == []


def test_a_written_training_set_holds_on_demand_features_and_knows_their_code(shop):
    labels = pl.LazyFrame({"customer": ["c0"], "event_timestamp": [WHEN], "basket": [37.0]})
    definition = TrainingSet("checkouts", lambda: labels, ["basket_shares"], "team@example.com")
    written = shop.write_training_set(definition)
    assert written.columns == (*labels.collect_schema().names(), "share_of_3d:v1", "share_of_3d", "is_first")
    assert not shop.write_training_set(definition).created


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r"Request data basket are missing: .* need basket \(float\)"),
        ({}, "basket are missing"),
        ({"basket": 1.0, "cart": 2}, "'cart' are of no use here: needed are basket"),
        ({"basket": "1"}, "'basket' is declared as float, got '1'"),
        ({"basket": True}, "'basket' is declared as float, got True"),
        ({"basket": 10**400}, "too great"),
    ],
)
def test_request_data_that_cannot_be_used_are_refused(shop, data, message):
    with pytest.raises(InvalidRequestError, match=message):
        shop.get_online_features("c0", ["basket_shares"], request_data=data)


def test_request_data_are_one_value_per_entity(shop):
    for wrong in ([1.0], 1.0, "ab"):
        with pytest.raises(InvalidRequestError, match="one value per entity, 2 in all"):
            shop.get_online_features_batch(["c0", "c1"], ["basket_shares"], request_data={"basket": wrong})
    with pytest.raises(InvalidRequestError, match="of no use here: needed are none"):
        shop.get_online_features("c0", ["amount_3d"], request_data={"basket": 1.0})


def test_label_frames_without_usable_request_data_are_refused(shop):
    labels = pl.DataFrame({"customer": ["c0"], "event_timestamp": [WHEN]})
    with pytest.raises(InvalidRequestError, match=r"no column\(s\) basket"):
        shop.training_set(labels, ["basket_shares"])
    with pytest.raises(InvalidRequestError, match="'basket' holds String, on-demand features declare it as float"):
        shop.training_set(labels.with_columns(basket=pl.lit("x")), ["basket_shares"])
    with pytest.raises(InvalidRequestError, match="names of requested features: is_first"):
        shop.training_set(labels.with_columns(basket=pl.lit(1.0), is_first=pl.lit(1)), ["basket_shares"])


def test_unknown_names_are_refused(shop):
    with pytest.raises(UnknownFeatureError, match=r"'share_of_3d' has the version\(s\) v1, v2"):
        shop.get_online_features("c0", ["share_of_3d:v3"])
    with pytest.raises(UnknownFeatureError, match="amount_3d"):
        shop.get_online_features("c0", ["amont_3d"])
    with pytest.raises(InvalidRequestError, match="No features"):
        shop.get_online_features("c0", [])


class Kinds(FeatureSchema):
    shouted: str = feature("The text in capitals")
    later: Timestamp = feature("An hour later")
    doubled: Embedding = feature("Twice the vector", dimension=2)
    counted: int = feature("One more")


@on_demand(
    inputs=["orders_3d"],
    request={"text": str, "when": datetime, "vector": embedding(2), "number": int, "flag": bool},
    schema=Kinds,
    owner="team@example.com",
)
def kinds(orders_3d, text, when, vector, number, flag):  # one per input
    del orders_3d
    return {
        "shouted": pl.when(flag).then(text.str.to_uppercase()).otherwise(text),
        "later": when + timedelta(hours=1),
        "doubled": vector * 2,
        "counted": (number + 1).cast(pl.Int64),
    }


def test_all_dtypes_pass_through_and_json_texts_are_times(store):
    module = everything(kinds=kinds)
    store.apply([module.spending])
    own = FeatureStore(store.offline, store.online, store.registry, store.clock, definitions=module)
    data = {"text": "ä", "when": "2024-03-01T00:00:00+01:00", "vector": [1.0, 0.5], "number": 2**53, "flag": True}
    online = own.get_online_features("c1", ["kinds"], request_data=data)
    when = datetime(2024, 2, 29, 23, tzinfo=UTC)
    assert online == {
        "shouted": "Ä",
        "later": when + timedelta(hours=1),
        "doubled": [2.0, 1.0],
        "counted": 2**53 + 1,
    }
    labels = pl.DataFrame(
        {"customer": ["c1"], "event_timestamp": [WHEN], **{name: [value] for name, value in data.items()}}
    )
    labels = labels.with_columns(pl.lit(when).alias("when"))
    assert own.training_set(labels, ["kinds"]).select(online.keys()).to_dicts() == [online]


class One(FeatureSchema):
    result: float = feature("A result")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (lambda amount, basket: {"result": basket - basket.mean()}, "depends on other rows"),
        (lambda amount, basket: {"result": basket.shift(1)}, "depends on other rows"),
        (lambda amount, basket: {"result": basket.cum_sum()}, "depends on other rows"),
        (lambda amount, basket: {"result": basket.rank()}, "depends on other rows"),
        (lambda amount, basket: {"result": pl.len()}, "depends on other rows"),
        (lambda amount, basket: {"result": basket.filter(basket > 1)}, "number of rows"),
        (lambda amount, basket: {"result": basket.cast(pl.String)}, "gives String, its schema declares float"),
        (lambda amount, basket: {"result": basket.str.to_lowercase()}, "cannot be computed"),
        (lambda amount, basket: {"result": pl.col("elsewhere")}, "cannot be computed"),
    ],
)
def test_expressions_that_break_their_promise_are_refused_at_the_first_use(store, expression, message):
    def result_of(amount_3d, basket):
        return expression(amount_3d, basket)

    broken = on_demand(inputs=["amount_3d"], request={"basket": float}, schema=One, owner="x")(result_of)
    module = everything(broken=broken)
    store.apply([module.spending])
    own = FeatureStore(store.offline, store.online, store.registry, store.clock, definitions=module)
    with pytest.raises(DefinitionError, match=message):
        own.get_online_features("c1", ["result"], request_data={"basket": 1.0})


def test_what_fails_on_some_values_only_is_an_error_of_the_request(store):
    @on_demand(inputs=["amount_3d"], request={"text": str}, schema=One, owner="x")
    def number_of(amount_3d, text):
        return {"result": text.cast(pl.Float64) + amount_3d.fill_null(1)}

    module = everything(number_of=number_of)
    store.apply([module.spending])
    own = FeatureStore(store.offline, store.online, store.registry, store.clock, definitions=module)
    assert own.get_online_features("c1", ["result"], request_data={"text": "2.5"}) == {"result": 3.5}
    with pytest.raises(InvalidRequestError, match="'number_of' cannot be computed"):
        own.get_online_features("c1", ["result"], request_data={"text": "two"})


@pytest.mark.parametrize(
    ("arguments", "function", "message"),
    [
        ({"inputs": []}, lambda basket: {}, "need a list of stored features"),
        ({"inputs": ["Amount"]}, lambda basket: {}, "not a feature reference"),
        ({"inputs": ["a", "a:v1"]}, lambda a, basket: {}, "'a' and 'a:v1' are one"),
        ({"inputs": ["a"], "request": {"b": complex}}, lambda a, b: {}, "declared as <class 'complex'>"),
        ({"inputs": ["a"], "request": {"entity_id": str}}, lambda a: {}, "column of the store itself"),
        ({"inputs": ["a"], "request": {"a": str}}, lambda a: {}, "use a twice"),
        ({"inputs": ["result"]}, lambda result: {}, "use result twice"),
        ({"inputs": ["a"], "name": "result"}, lambda a: {}, "same name"),
        ({"inputs": ["a"], "owner": ""}, lambda a: {}, "have no owner"),
        ({"inputs": ["a:v2"]}, lambda a: {}, "must take a_v2"),
        ({"inputs": ["a"]}, lambda a: [a], "must return one expression for each of result, got list"),
        ({"inputs": ["a"]}, lambda a: {"other": a}, r"result, got \['other'\]"),
        ({"inputs": ["a"]}, lambda a: {"result": 1}, "no Polars expression"),
    ],
)
def test_malformed_definitions_are_refused(arguments, function, message):
    with pytest.raises(DefinitionError, match=message):
        on_demand(**{"name": "odd", "schema": One, "owner": "x", **arguments})(function)


def test_names_shared_with_stored_features_are_refused():
    clash = on_demand(inputs=["orders_3d"], schema=One, owner="x", name="last_amount")(
        lambda orders_3d: {"result": orders_3d}
    )
    with pytest.raises(DefinitionError, match="'last_amount' of the on-demand features 'last_amount' is the name of"):
        load_definitions(everything(clash=clash))


@pytest.mark.parametrize("features", [[], "amount_3d"])
def test_a_feature_service_needs_a_list(features):
    with pytest.raises(DefinitionError, match="needs a list of features"):
        FeatureService("checkout", features)
