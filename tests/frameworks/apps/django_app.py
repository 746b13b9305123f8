"""The site in Django, with a database; served through WSGI and ASGI. Django's own middleware is always inside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import connection, models, transaction
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt

import tests.django_setup  # noqa: F401
from tests.frameworks.around import asgi_outside, wsgi_outside
from tests.frameworks.site import Layout, Shop, add_rules, say, user_of
from tiercache.integrations.django import cache, purge_on_commit

INSIDE_NEEDS: dict[str, Any] = {}
"""Nothing: django-cors-headers and Django's gzip say what depends on what, on every answer."""


def token_users(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        request.token_user = user_of(request.headers.get("Authorization"))
        return get_response(request)

    return middleware


add_rules(cache)


class Product(models.Model):
    price = models.IntegerField()

    class Meta:
        app_label = "site"


with connection.schema_editor() as editor:
    if Product._meta.db_table not in connection.introspection.table_names():
        editor.create_model(Product)
connection.close()

shop = Shop()


@csrf_exempt
def product(request: HttpRequest, id: int) -> HttpResponse:
    if request.method == "POST":
        store(request, id)
        return HttpResponse("changed")
    found = Product.objects.filter(pk=id).first()
    return HttpResponse(shop.page(f"product {id}", f"costs {found.price if found else 1}"))


def store(request: HttpRequest, id: int) -> None:
    Product.objects.update_or_create(pk=id, defaults={"price": int(request.body)})


@csrf_exempt
@transaction.atomic
def reprice(request: HttpRequest, id: int) -> HttpResponse:
    purge_on_commit(tags=[f"product:{id}"])
    store(request, id)
    return HttpResponse("changed")


@csrf_exempt
@transaction.atomic
def relink(request: HttpRequest, id: int) -> HttpResponse:
    store(request, id)
    link = reverse("product", args=[id])
    purge_on_commit(urls=[request.build_absolute_uri(link), link])
    return HttpResponse("changed")


def in_thread(request: HttpRequest, what: str, id: str) -> HttpResponse:
    say(what, id)
    return HttpResponse(shop.page(request.path))


async def in_task(request: HttpRequest, what: str, id: str) -> HttpResponse:
    say(what, id)
    return HttpResponse(shop.page(request.path))


@cache.cached(ttl="10m", tags=["declared:{id}"])
def declared(request: HttpRequest, id: int) -> HttpResponse:
    return HttpResponse(shop.page(request.path))


def me(request: HttpRequest) -> HttpResponse:
    return HttpResponse(shop.page("me", f"hello {request.session.get('name', 'nobody')}"))


@csrf_exempt
def login(request: HttpRequest, name: str) -> HttpResponse:
    request.session["name"] = name
    return HttpResponse("welcome")


def visits(request: HttpRequest, id: int) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(shop.page("visits", f"of you: {request.session['visits']}"))


def text(request: HttpRequest, id: int) -> HttpResponse:
    return HttpResponse(shop.long(id))


def streamed(request: HttpRequest, pieces: Iterator[bytes]) -> StreamingHttpResponse:
    async def asynchronous() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return StreamingHttpResponse(asynchronous() if isinstance(request, ASGIRequest) else pieces)


def stream(request: HttpRequest, id: int) -> StreamingHttpResponse:
    return streamed(request, shop.pieces(id))


def flood(request: HttpRequest, id: int) -> StreamingHttpResponse:
    return streamed(request, shop.flood(id))


def shared(request: HttpRequest, id: int) -> HttpResponse:
    return HttpResponse(shop.page(request.path))


def secret(request: HttpRequest, id: int) -> HttpResponse:
    if request.token_user is None:
        return HttpResponse(status=401)
    return HttpResponse(shop.page("secret", f"of {request.token_user}"))


def missing(request: HttpRequest, id: int) -> HttpResponse:
    raise Http404(shop.page("missing"))


def broken(request: HttpRequest, id: int) -> HttpResponse:
    raise RuntimeError(shop.page("broken"))


def state(request: HttpRequest) -> HttpResponse:
    return HttpResponse(shop.state(cache))


urlpatterns = [
    path("products/<int:id>", product, name="product"),
    path("reprice/<int:id>", reprice),
    path("relink/<int:id>", relink),
    path("sync/<what>/<id>", in_thread),
    path("async/<what>/<id>", in_task),
    path("declared/<int:id>", declared),
    path("me", me),
    path("login/<name>", login),
    path("visits/<int:id>", visits),
    path("texts/<int:id>", text),
    path("streams/<int:id>", stream),
    path("floods/<int:id>", flood),
    path("shared/<int:id>", shared),
    path("secrets/<int:id>", secret),
    path("missing/<int:id>", missing),
    path("broken/<int:id>", broken),
    path("state", state),
    # For the tests of `tiercache.testing`: a process has one Django.
    path("p/<page>", csrf_exempt(lambda request, page: HttpResponse("page"))),
]


def build(face: Literal["asgi", "wsgi"], layout: Layout) -> Any:
    """The application around `cache`, which Django's settings have made."""
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application
    from django.test.utils import override_settings

    own = settings.MIDDLEWARE
    if layout == "outside":
        own = [name for name in own if not name.endswith(("CorsMiddleware", "GZipMiddleware"))]
    with override_settings(MIDDLEWARE=own):
        app = cache.asgi(get_asgi_application()) if face == "asgi" else cache.wsgi(get_wsgi_application())
    if layout == "inside":
        return app
    return asgi_outside(app) if face == "asgi" else wsgi_outside(app)
