"""Registering groups: what is created, what may change, and what is refused whole."""

from __future__ import annotations

from datetime import timedelta

import pytest

from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.definitions.dtypes import FLOAT, INT, STRING, embedding
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.schema import Embedding, Timestamp
from feature_store.errors import DefinitionError, RegistryConflictError, RegistryError, UnknownFeatureError
from feature_store.partitions import Partitioning
from feature_store.registry.records import ApplyReport
from tests.registry.groups import NOW, START, USER, group, second

CLICKS, LATE = FeatureRef("clicks_7d", 1), FeatureRef("late_share", 1)
LATER = NOW + timedelta(days=1)


def refused(registry, groups, *words):
    """Applies what must be refused, and returns the message; the catalog must stay as it was."""
    before = registry.catalog()
    with pytest.raises(RegistryConflictError) as caught:
        registry.apply(groups)
    assert registry.catalog() == before
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def test_a_group_comes_back_as_it_was_declared(registry):
    route = Entity("route", {"origin": str, "number": int, "dest": str}, "A flight number between two airports.")
    declared = group(
        "route_delays",
        {
            "delay": (float, {"description": "Mean delay, minutes.", "ttl": timedelta(hours=2), "tags": {"pii": "no"}}),
            "flights": int,
            "carrier": str,
            "cancelled": bool,
            "last_seen": Timestamp,
            "profile_v2": (Embedding, {"dimension": 24}),
        },
        entity=route,
        default_ttl=timedelta(days=40_000),
        online_layout="row",
        partitioning=Partitioning.HOURLY,
        lookback=timedelta(seconds=90, microseconds=1),
    )

    registry.apply([declared])
    catalog = registry.catalog()

    registered = catalog.group("route_delays")
    assert registered.entity == route
    assert list(registered.entity.join_keys) == ["origin", "number", "dest"]
    assert registered == RegisteredGroup(
        name="route_delays",
        entity=route,
        features=registered.features,
        owner="growth@example.org",
        description="What users click.",
        online_layout="row",
        partitioning="hourly",
        lookback_seconds=91,
        code_version=declared.code_version,
        created_at=NOW,
    )
    assert [str(feature.dtype) for feature in registered.features] == [
        *("float", "int", "string", "bool", "timestamp", "embedding[24]"),
    ]
    delay, *_, profile = registered.features
    assert delay == Feature(
        id=delay.id,
        ref=FeatureRef("delay", 1),
        entity="route",
        dtype=FLOAT,
        description="Mean delay, minutes.",
        owner="growth@example.org",
        online_ttl_seconds=7200,
        tags={"pii": "no"},
        group="route_delays",
        created_at=NOW,
        retired_at=None,
    )
    assert profile.ref == FeatureRef("profile", 2)
    assert profile.dtype == embedding(24)
    assert profile.online_ttl_seconds == 40_000 * 86_400
    assert all(feature.created_at.utcoffset() == timedelta(0) for feature in registered.features)


def test_reports_what_is_created_updated_and_unchanged(registry, clock):
    assert registry.apply([group()]) == ApplyReport(("user_clicks", CLICKS, LATE), (), (), ())
    assert registry.apply([group()]) == ApplyReport((), (), ("user_clicks", CLICKS, LATE), ())
    before = registry.catalog().features

    clock.set(LATER)
    changed = {
        "views": int,
        "clicks_7d": (float, {"description": "Clicks of 7 days.", "ttl": timedelta(hours=1), "tags": {"k": "v"}}),
        "late_share": float,
    }
    report = registry.apply([group(features=changed)])

    views = FeatureRef("views", 1)
    assert report == ApplyReport((views,), ("user_clicks", CLICKS), (LATE,), ())
    after = registry.catalog()
    assert [feature.ref for feature in after.group("user_clicks").features] == [views, CLICKS, LATE]
    assert after.features[CLICKS].id == before[CLICKS].id
    assert after.features[CLICKS].created_at == NOW
    assert after.features[CLICKS].description == "Clicks of 7 days."
    assert after.features[CLICKS].online_ttl_seconds == 3600
    assert after.features[CLICKS].tags == {"k": "v"}
    assert after.features[LATE] == before[LATE]
    assert after.features[views].created_at == LATER


def test_owner_description_tags_and_lookback_may_change(registry):
    registry.apply([group()])
    entity = Entity("user", {"user_id": str}, "Somebody else.")
    moved = group(owner="ads@example.org", description="New.", tags={}, lookback=timedelta(1), entity=entity)

    report = registry.apply([moved])

    assert report.updated == ("user_clicks", CLICKS, LATE)
    assert report.changed_code == ("user_clicks",)  # the look-back is part of the computation
    registered = registry.catalog().group("user_clicks")
    assert (registered.owner, registered.description, registered.lookback_seconds) == (
        "ads@example.org",
        "New.",
        86_400,
    )
    assert registered.entity.description == "Somebody else."
    assert {feature.owner for feature in registered.features} == {"ads@example.org"}


def test_changed_code_is_reported_and_accepted(registry):
    registry.apply([group()])
    report = registry.apply([group(transform=second)])
    assert report == ApplyReport((), ("user_clicks",), (CLICKS, LATE), ("user_clicks",))
    assert registry.catalog().group("user_clicks").code_version == group(transform=second).code_version


def test_nothing_to_apply_still_makes_a_registry(registry):
    assert registry.apply([]) == ApplyReport((), (), (), ())
    assert registry.catalog() == Catalog({})


def test_the_same_group_twice_is_one(registry):
    declared = group()
    assert registry.apply([declared, declared]).created == ("user_clicks", CLICKS, LATE)


@pytest.mark.parametrize(
    ("features", "is_and_asked"),
    [
        ({"clicks_7d": int}, ("'float'", "'int'")),
        ({"clicks_7d": (Embedding, {"dimension": 3})}, ("'float'", "'embedding[3]'")),
    ],
)
def test_a_version_never_changes_its_dtype(registry, features, is_and_asked):
    registry.apply([group()])
    refused(registry, [group(features=features)], "clicks_7d:v1", *is_and_asked, "rename the column to clicks_7d_v2")


def test_an_embedding_never_changes_its_length(registry):
    registry.apply([group(features={"profile": (Embedding, {"dimension": 24})})])
    asked = [group(features={"profile": (Embedding, {"dimension": 32})})]
    refused(registry, asked, "profile:v1", "embedding[24]", "embedding[32]", "profile_v2")


def test_the_remedy_names_the_next_free_version(registry):
    registry.apply([group(features={"clicks_7d": float, "clicks_7d_v2": int})])
    asked = [group(features={"clicks_7d": int, "clicks_7d_v2": int, "clicks_7d_v3": int})]
    refused(registry, asked, "rename the column to clicks_7d_v4 to register version 4")


def test_two_versions_live_side_by_side(registry):
    registry.apply([group()])
    registry.apply([group(features={"clicks_7d": float, "late_share": float, "clicks_7d_v2": int})])
    catalog = registry.catalog()
    assert catalog.features[CLICKS].dtype == FLOAT
    assert catalog.features[FeatureRef("clicks_7d", 2)].dtype == INT
    assert catalog.current("clicks_7d").ref.version == 2


def test_a_version_never_moves_to_another_group(registry):
    registry.apply([group()])
    both = [group(features={"late_share": float}), group("other", {"clicks_7d": float})]
    refused(registry, both, "clicks_7d:v1", "'user_clicks'", "'other'", "clicks_7d_v2")


def test_two_groups_of_one_apply_never_claim_one_feature(registry):
    registry.apply([])
    refused(registry, [group(), group("other", {"late_share": float})], "late_share:v1", "'user_clicks'", "'other'")


def test_two_groups_never_share_a_name(registry):
    registry.apply([])
    refused(registry, [group(), group(features={"views": int})], "named 'user_clicks'", "rename")


@pytest.mark.parametrize("keys", [{"user_id": int}, {"id": str}, {"user_id": str, "shop": str}])
def test_join_keys_never_change(registry, keys):
    registry.apply([group()])
    refused(registry, [group("other", {"views": int}, entity=Entity("user", keys))], "'user'", "user_id: string")
    asked = [group(entity=Entity("user", keys), transform=second)]
    refused(registry, asked, "another name")


def test_the_order_of_join_keys_never_changes(registry):
    registry.apply([group(entity=Entity("pair", {"a": str, "b": str}))])
    refused(registry, [group(entity=Entity("pair", {"b": str, "a": str}))], "(a: string, b: string)")


def test_an_entity_is_declared_one_way_in_one_apply(registry):
    registry.apply([])
    other = group("other", {"views": int}, entity=Entity("user", {"id": int}))
    refused(registry, [group(), other], "declared twice", "user_id: string", "id: int")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entity": Entity("person", {"user_id": str})}, ("entity 'user'", "'person'")),
        ({"partitioning": Partitioning.HOURLY}, ("partitioning 'daily'", "'hourly'")),
        ({"online_layout": "row"}, ("online layout 'feature'", "'row'")),
    ],
)
def test_what_a_group_is_laid_out_by_never_changes(registry, change, words):
    registry.apply([group()])
    refused(registry, [group(**change)], "'user_clicks'", *words, "a group of another name")


def test_a_name_is_never_both_a_group_and_a_feature(registry):
    registry.apply([group()])
    refused(registry, [group("clicks_7d", {"views": int})], "'clicks_7d'", "both")
    refused(registry, [group("other", {"user_clicks": int})], "'user_clicks'", "both")
    refused(registry, [group("one", {"views": int}), group("two", {"one": int})], "'one'", "both")


def test_an_apply_with_a_conflict_registers_nothing(registry):
    registry.apply([group()])
    wrong = group(features={"clicks_7d": int, "late_share": str}, owner="ads@example.org")
    new = group("aaa", {"views": int}, entity=Entity("shop", {"shop_id": int}))
    message = refused(registry, [new, wrong], "2 conflicts", "clicks_7d:v1", "late_share:v1", "nothing was registered")
    assert message.count("\n") == 2
    assert registry.catalog().group("user_clicks").owner == "growth@example.org"
    # Neither the entity: its name is still free for other join keys.
    registry.apply([group("aaa", {"views": int}, entity=Entity("shop", {"shop": str}))])


def test_a_schema_that_lacks_a_live_feature_is_refused_until_it_is_retired(registry):
    registry.apply([group(features={"a": float, "b": float, "c": float})])
    a, b, c, d = (FeatureRef(name, 1) for name in "abcd")

    less = group(features={"c": float, "d": float})
    refused(registry, [less], "lacks a:v1, b:v1, which are live", "`feature-store retire a:v1`", "retire b:v1`")
    refused(registry, [group(features={"a_v2": float, "b": float, "c": float})], "lacks a:v1, which is live", "retire")
    # What is not applied is not judged.
    registry.apply([group("other", {"other_value": float})])
    assert [feature.ref for feature in registry.catalog().group("user_clicks").features] == [a, b, c]

    registry.retire(a)
    refused(registry, [less], "lacks b:v1, which is live")
    registry.retire(b)
    assert registry.apply([less]).created == (d,)
    assert [feature.ref for feature in registry.catalog().group("user_clicks").features] == [c, d]
    assert registry.apply([group(features={"d": float, "c": float})]).unchanged == (d, c)
    assert [feature.ref for feature in registry.catalog().group("user_clicks").features] == [d, c]


def test_a_retired_version_never_comes_back(registry, clock):
    registry.apply([group()])
    clock.set(LATER)
    registry.retire(CLICKS)
    registry.retire(CLICKS)

    catalog = registry.catalog()
    assert set(catalog.features) == {LATE}
    with pytest.raises(UnknownFeatureError):
        catalog.select(["clicks_7d"])
    clock.set(LATER + timedelta(days=7))
    refused(registry, [group()], "clicks_7d:v1", "retired on 2013-06-02", "rename the column to clicks_7d_v2")

    report = registry.apply([group(features={"clicks_7d_v2": int, "late_share": float})])
    assert report.created == (FeatureRef("clicks_7d", 2),)
    assert registry.catalog().current("clicks_7d").dtype == INT


def test_a_group_whose_features_are_all_retired_stays(registry):
    registry.apply([group()])
    registry.retire(CLICKS)
    registry.retire(LATE)
    assert registry.catalog().group("user_clicks").features == ()


def test_only_registered_versions_can_be_retired(registry):
    registry.apply([group()])
    with pytest.raises(UnknownFeatureError, match=r"clicks_7d:v2 is not registered\. Did you mean clicks_7d:v1\?"):
        registry.retire(FeatureRef("clicks_7d", 2))
    with pytest.raises(UnknownFeatureError):
        registry.retire(FeatureRef("'; DROP TABLE feature; --", 1))
    assert set(registry.catalog().features) == {CLICKS, LATE}


def test_a_registry_that_was_never_applied_says_so(registry):
    for call in (registry.catalog, lambda: registry.retire(CLICKS), lambda: registry.training_sets("churn")):
        with pytest.raises(RegistryError, match="never been applied: run `feature-store apply`"):
            call()


def test_reading_a_registry_that_is_not_there_leaves_no_file(tmp_path, clock):
    from feature_store.registry.registry import Registry

    registry = Registry(f"sqlite:///{tmp_path / 'folder' / 'registry.db'}", clock)
    with pytest.raises(RegistryError, match="never been applied"):
        registry.catalog()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["Robert'); DROP TABLE feature;--", "100% :name ? {x} \\ \n", "Ελληνικά 🛫", "", "quotes \" and ' both"],
)
def test_free_text_is_kept_as_it_is(registry, text):
    features = {"clicks_7d": (float, {"description": text or " ", "tags": {text: text}})}
    registry.apply([group(features=features, description=text, tags={text: text})])
    catalog = registry.catalog()
    assert catalog.group("user_clicks").description == text
    assert catalog.features[CLICKS].tags == {text: text}
    assert registry.apply([group(features=features, description=text, tags={text: text})]).updated == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"description": "a\0b"}, "description of feature group 'user_clicks'"),
        ({"owner": "\ud800"}, "owner of feature group 'user_clicks'"),
        ({"tags": {"team": 3}}, "tag 'team' of feature group 'user_clicks'"),
        ({"default_ttl": timedelta(milliseconds=1500)}, "whole seconds"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(registry, change, words):
    registry.apply([])
    with pytest.raises(DefinitionError, match=words):
        registry.apply([group(**change)])
    assert registry.catalog() == Catalog({})


def test_entities_are_shared_by_groups(registry):
    registry.apply([group(), group("views_of_users", {"views": int}, start=START)])
    groups = registry.catalog().groups
    assert list(groups) == ["user_clicks", "views_of_users"]
    assert all(registered.entity == USER for registered in groups.values())
    assert groups["user_clicks"].entity.key_dtypes == {"user_id": STRING}
