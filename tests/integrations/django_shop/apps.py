"""The app that the models belong to."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "tests.integrations.django_shop"
    label = "shop"
