"""Django's models with real databases: what a transaction has changed is purged once it has committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connections, models, router, transaction
from django.db.models import F
from django.test import TestCase

import tests.django_setup  # noqa: F401
from tests.integrations.django_shop.models import Book, Category, Keyed, Label, Product, Slugged
from tests.integrations.told import Told
from tests.servers import free_port
from tiercache import ConfigError, PurgeError, TierCache
from tiercache.integrations.django_models import (
    OnCommit,
    invalidate_on_commit,
    purge_on_commit,
)

MODELS = (Category, Label, Product, Book, Keyed)
TAGS: dict[Any, Any] = {
    Product: ["product:{id}", "category:{category_id}"],
    Book: "isbn:{isbn}",
    Slugged: "slug:{slug}",
    Label: "label:{pk}",
}


def fit(url: str) -> None:
    """Let the connection of this thread lead there."""
    address = psycopg.conninfo.conninfo_to_dict(url)
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    connections["postgresql"].settings_dict.update({names[key]: value for key, value in address.items()})


@pytest.fixture(scope="module", params=["default", "postgresql"])
def using(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgresql":
        fit(request.getfixturevalue("postgres_server").new_database())
    with connections[request.param].schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield request.param
    connections[request.param].close()


@pytest.fixture
def shop(using: str) -> str:
    """Its alias. Products 1 to 3 of category 1, the third with label 1; a book, 9, of category 2."""
    for model in (Book, Product, Label, Category, Keyed):
        model.objects.using(using).all().delete()
    first, second = (Category.objects.using(using).create(id=n, slug=s) for n, s in ((1, "tea"), (2, "coffee")))
    Label.objects.using(using).create(id=1)
    Label.objects.using(using).create(id=2)
    for n in (1, 2, 3):
        Product.objects.using(using).create(id=n, category=first)
    Book.objects.using(using).create(id=9, category=second, isbn="978")
    Product.objects.using(using).get(id=3).labels.add(1)
    return using


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(told: Told) -> Iterator[Callable[..., OnCommit]]:
    watches: list[OnCommit] = []

    def make(tags: Any = TAGS, **options: Any) -> OnCommit:
        watches.append(invalidate_on_commit(told.cache, tags, **options))
        return watches[-1]

    yield make
    for one in watches:
        one.remove()


def product(using: str, key: int = 1) -> Any:
    return Product.objects.using(using).get(id=key)


def moved(using: str) -> None:
    one = product(using)
    one.category_id = 2
    one.save()


def moved_without_reading(using: str) -> None:
    Product(id=1, category_id=2).save(using=using)


def another_field(using: str) -> None:
    one = product(using)
    one.category_id, one.price = 2, 5
    one.save(update_fields=["price"])


def by_expression(using: str) -> None:
    one = product(using)
    one.category_id = F("category_id") + 1
    one.save()


def deferred(using: str) -> None:
    one = Product.objects.using(using).defer("category").get(id=1)
    one.price = 7
    one.save()


def bulk_update(using: str) -> None:
    one = product(using)
    one.category_id = 2
    Product.objects.using(using).bulk_update([one], ["category_id"])


@pytest.mark.parametrize(
    ("change", "tags"),
    [
        (lambda using: Product(id=4, category_id=2).save(using=using), {"product:4", "category:2"}),
        (lambda using: Product(id=4).save(using=using), {"product:4"}),
        (lambda using: Book(id=5, isbn="1").save(using=using), {"product:5", "isbn:1"}),
        (lambda using: Keyed(slug="k").save(using=using), {"slug:k"}),
        (moved, {"product:1", "category:1", "category:2"}),
        (moved_without_reading, {"product:1", "category:1", "category:2"}),
        (another_field, {"product:1", "category:1"}),
        (by_expression, {"product:1", "category:1", "category:2"}),
        (deferred, {"product:1", "category:1"}),
        (lambda using: product(using).delete(), {"product:1", "category:1"}),
        (lambda using: product(using, 3).delete(), {"product:3", "category:1", "label:1"}),
        (lambda using: Label.objects.using(using).filter(id=1).delete(), {"label:1", "product:3", "category:1"}),
        (
            lambda using: Category.objects.using(using).get(id=1).delete(),
            {"slug:tea", "category:1", "product:1", "product:2", "product:3", "label:1"},
        ),
        (lambda using: product(using).labels.add(2), {"product:1", "category:1", "label:2"}),
        (lambda using: product(using, 3).labels.remove(1), {"product:3", "category:1", "label:1"}),
        (lambda using: product(using, 3).labels.clear(), {"product:3", "category:1", "label:1"}),
        (
            lambda using: Label.objects.using(using).get(id=1).product_set.clear(),
            {"product:3", "category:1", "label:1"},
        ),
        (
            lambda using: Product.objects.using(using).filter(id__lt=3).update(category_id=2),
            {"product:1", "product:2", "category:1", "category:2"},
        ),
        (bulk_update, {"product:1", "category:1", "category:2"}),
        (
            lambda using: Product.objects.using(using).bulk_create([Product(id=6), Product(id=7, category_id=2)]),
            {"product:6", "product:7", "category:2"},
        ),
        (lambda using: Product.objects.using(using).filter(id=77).update(price=3), set()),
        (lambda using: list(Product.objects.using(using).all()), set()),
    ],
)
def test_a_commit_purges_what_has_changed(
    change: Callable[[str], Any], tags: set[str], shop: str, told: Told, watch: Callable[..., OnCommit]
) -> None:
    watch()
    with transaction.atomic(using=shop):
        change(shop)
        transaction.set_rollback(True, using=shop)
    assert told.take() == set()
    with transaction.atomic(using=shop):
        change(shop)
        assert told.take() == set()
    assert told.take() == tags
    assert told.times <= 1


def test_without_a_transaction_it_is_purged_at_once(shop: str, told: Told, watch: Callable[..., OnCommit]) -> None:
    watch()
    moved(shop)
    assert told.take() == {"product:1", "category:1", "category:2"}
    product(shop, 3).labels.clear()
    assert told.take() == {"product:3", "category:1", "label:1"}
    Product.objects.using(shop).filter(id=2).update(price=1)
    assert told.take() == {"product:2", "category:1"}


def test_savepoints(shop: str, told: Told, watch: Callable[..., OnCommit]) -> None:
    watch()
    with transaction.atomic(using=shop):
        Label(id=10).save(using=shop)
        with transaction.atomic(using=shop):
            Label(id=11).save(using=shop)
            transaction.set_rollback(True, using=shop)
        with transaction.atomic(using=shop):
            for n in range(12, 60):
                Label(id=n).save(using=shop)
        assert told.take() == set()
    assert told.take() == {"label:10", *(f"label:{n}" for n in range(12, 60))}
    assert told.times == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda using: Product.objects.using(using).update(price=1),
        lambda using: Product.objects.using(using).bulk_create([Product(id=1)], ignore_conflicts=True),
        lambda using: Product.objects.using(using).bulk_create([Product(id=n) for n in range(20, 24)]),
    ],
)
def test_where_the_rows_cannot_be_told_what_stands_for_them_goes(
    change: Any, shop: str, told: Told, watch: Callable[..., OnCommit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache.integrations.django_models.MOST_ROWS", 3)
    watching = watch()
    with transaction.atomic(using=shop):
        change(shop)
    assert told.take() == {"everything"}
    watching.remove()
    watch(unknown="catalog")
    Product.objects.using(shop).update(price=1)
    assert told.take() == {"catalog"}


def test_what_is_written_is_asked_where_it_is_written(
    shop: str, told: Told, watch: Callable[..., OnCommit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "db_for_read", lambda *args, **hints: "a replica")
    monkeypatch.setattr(router, "db_for_write", lambda *args, **hints: shop)
    watch()
    Product.objects.filter(id=1).update(price=3)
    Product.objects.bulk_create([Product(id=20)])
    Product(id=2, category_id=2).save()
    assert told.take() == {"product:1", "category:1", "product:20", "product:2", "category:2"}


def test_functions_say_what_they_like(shop: str, told: Told, watch: Callable[..., OnCommit]) -> None:
    watch({Product: ["product:{pk}", lambda one: [f"price:{one.price}"]], Label: lambda one: [one.pk]})
    product(shop).save()
    assert told.take() == {"product:1", "price:0"}
    Label(id=10).save(using=shop)
    assert told.take() == {"everything"}
    assert told.cache.stats()["swallowed"] == {"tags of a change": 1, "change of unknown rows": 1}


def test_a_purge_that_is_not_confirmed_does_not_fail_the_commit(shop: str) -> None:
    away = TierCache(f"redis://127.0.0.1:{free_port()}/0")
    ending = invalidate_on_commit(away, TAGS)
    try:
        with transaction.atomic(using=shop):
            Label(id=10).save(using=shop)
            purge_on_commit(away, tags="catalog", using=shop)
        assert Label.objects.using(shop).filter(id=10).exists()
        queued = {member for item in away._engine.ledger.pending() for member in item.members}
        assert queued == {"h:t:label:10", "h:t:catalog"}
        assert away.stats()["purges_queued"] == 2
    finally:
        ending.remove()
        away.close()


def test_models_that_nobody_watches_are_left_alone(shop: str, watch: Callable[..., OnCommit]) -> None:
    watching = watch()
    assert not models.signals.pre_delete.has_listeners(models.Model)
    assert models.signals.pre_delete.has_listeners(Product)
    watching.remove()
    watching.remove()
    assert not models.signals.pre_delete.has_listeners(Product)


def test_a_model_that_is_made_later_is_watched_too(told: Told, watch: Callable[..., OnCommit]) -> None:
    watch()
    later = type("Later", (Slugged,), {"__module__": __name__, "Meta": type("Meta", (), {"app_label": "shop"})})
    assert models.signals.post_save.has_listeners(later)


def test_purge_on_commit(shop: str, told: Told) -> None:
    with transaction.atomic(using=shop):
        purge_on_commit(told.cache, tags=["a", "b"], using=shop)
        with pytest.raises(ConfigError, match="purge"):
            purge_on_commit(told.cache, using=shop)
        assert told.take() == set()
    assert told.take() == {"a", "b"}
    with transaction.atomic(using=shop):
        purge_on_commit(told.cache, everything=True, using=shop)
        transaction.set_rollback(True, using=shop)
    assert told.take() == set()

    async def view() -> None:
        with pytest.raises(PurgeError, match=r"await cache\.apurge"):
            purge_on_commit(told.cache, tags="a", using=shop)

    asyncio.run(view())


async def test_from_async_code(postgres_server: Any, told: Told, watch: Callable[..., OnCommit]) -> None:
    """Django runs it in a thread of its own, with a connection of its own."""

    def prepare() -> None:
        fit(postgres_server.new_database())
        with connections["postgresql"].schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)

    await sync_to_async(prepare)()
    watch()
    one = Product(id=1)
    await one.asave(using="postgresql")
    assert told.take() == {"product:1"}
    await Product.objects.using("postgresql").filter(id=1).aupdate(price=3)
    assert told.take() == {"product:1"}
    await one.labels.aset([await Label.objects.using("postgresql").acreate(id=7)])
    assert told.take() == {"product:1", "label:7"}
    await sync_to_async(connections.close_all)()


def test_tests_see_it(shop: str, told: Told, watch: Callable[..., OnCommit]) -> None:
    """As Django's `TestCase` has it, which never commits."""
    watch()
    with transaction.atomic(using=shop):
        Label(id=10).save(using=shop)
        with TestCase.captureOnCommitCallbacks(using=shop, execute=True):
            Label(id=11).save(using=shop)
        assert "label:11" in told.take()
        transaction.set_rollback(True, using=shop)


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({}, "a dict from models"),
        ({dict: "a"}, "models, or abstract bases"),
        ({"Product": "a"}, "models, or abstract bases"),
        ({Product: "product:{category}"}, "category_id, id, pk, price, in place of category"),
        ({Product: "product:{id"}, "invalidate_on_commit: Product"),
        ({Slugged: "slug:{id}"}, "invalidate_on_commit: Slugged"),
    ],
)
def test_tags_that_cannot_work_are_refused(tags: Any, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        invalidate_on_commit(TierCache(), tags)
    assert named in str(raised.value)
