"""The shop's pages as HTML. Every page says who made it and when, so that a stored one is known by its time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape

from examples.shop.database import Product, Turnover

_FRAME = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; margin: 2em auto; max-width: 40em }} footer {{ color: #666; margin-top: 3em }}
td, th {{ padding: .2em 1em .2em 0; text-align: left }}</style></head>
<body>
<nav><a href="/">Shop</a> | <a href="/dashboard?days=7">Dashboard</a> | <a href="/market-data">Market data</a> |
<a href="/account">Account</a></nav>
<h1>{title}</h1>
{body}
<footer>Made by {maker}, process {process}, at {time} UTC</footer>
</body>
</html>
"""


def _page(title: str, body: str, maker: str) -> str:
    time = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
    return _FRAME.format(title=escape(title), body=body, maker=escape(maker), process=os.getpid(), time=time)


def _euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def front(products: Iterable[tuple[Product, int]], user: str | None, maker: str) -> str:
    greeting = f"<p>Good to see you, {escape(user)}.</p>" if user else ""
    rows = (
        f'<tr><td><a href="/products/{product.id}">{escape(product.name)}</a></td><td>{_euros(cents)}</td></tr>'
        for product, cents in products
    )
    return _page("Shop", f"{greeting}<table>{''.join(rows)}</table>", maker)


def product(product: Product, cents: int, maker: str) -> str:
    # A page from the cache, or from the browser's, never reaches the app: so the browser says that it was looked at.
    body = f"""<p>{escape(product.category)}, <strong>{_euros(cents)}</strong> euros</p>
<form method="post" action="/products/{product.id}/price">
<label>New price <input name="price" value="{_euros(cents)}" size="8"></label> <button>Update</button></form>
<script>navigator.sendBeacon("/products/{product.id}/views")</script>"""
    return _page(product.name, body, maker)


def dashboard(days: int, turnover: Iterable[Turnover], views: Iterable[tuple[Product, int]], maker: str) -> str:
    sold = ["<tr><th>Category</th><th>Sales</th><th>Pieces</th><th>Euros</th></tr>"]
    for category, sales, pieces, euros in turnover:
        sold.append(f"<tr><td>{escape(category)}</td><td>{sales}</td><td>{pieces}</td><td>{euros:.2f}</td></tr>")
    seen = ["<tr><th>Product</th><th>Page views</th></tr>"]
    seen += [f"<tr><td>{escape(product.name)}</td><td>{number}</td></tr>" for product, number in views]
    tables = "".join("<table>{}</table>".format("\n".join(rows)) for rows in (sold, seen))
    return _page(f"The last {days} days", tables, maker)


def account(user: str | None, maker: str) -> str:
    if user:
        body = f"""<p>You are {escape(user)}.</p>
<form method="post" action="/account/leave"><button>Log out everywhere</button></form>"""
        return _page("Account", body, maker)
    form = """<form method="post" action="/account">
<label>Name <input name="user"></label> <button>Sign in</button></form>"""
    return _page("Account", form, maker)
