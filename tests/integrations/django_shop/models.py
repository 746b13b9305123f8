"""A shop whose tables are watched."""

from __future__ import annotations

import uuid

from django.db import models

from tiercache.integrations.django_models import PurgingQuerySet


class Slugged(models.Model):
    slug = models.TextField(null=True)

    class Meta:
        abstract = True


class Category(Slugged):
    pass


class Label(models.Model):
    pass


class Product(models.Model):
    price = models.IntegerField(default=0)
    category = models.ForeignKey(Category, null=True, on_delete=models.CASCADE)
    labels = models.ManyToManyField(Label)
    objects = PurgingQuerySet.as_manager()


class Book(Product):
    isbn = models.TextField()


class Keyed(Slugged):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
