from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.records import Stamp
from tiercache.core.session_mark import UNCONFIRMED, read, sign

SECRET = "a secret of some length"
STAMP = Stamp("0123456789abcdef", 42)


@pytest.mark.parametrize(
    "stamp", [STAMP, Stamp("~local", 0), Stamp(UNCONFIRMED, 1_700_000_000), Stamp("A-b_c~1", 999_999_999_999_999)]
)
def test_there_and_back(stamp: Stamp) -> None:
    assert read(SECRET, sign(SECRET, stamp)) == stamp


def test_it_can_stand_in_a_cookie() -> None:
    assert all(char.isalnum() or char in "._-!~" for char in sign(SECRET, Stamp(UNCONFIRMED, 7)) + sign(SECRET, STAMP))


def test_another_secret_signs_in_another_way() -> None:
    assert read("another secret, as long", sign(SECRET, STAMP)) is None


def test_it_is_no_signature_of_the_bare_text() -> None:
    """The same secret may sign other things elsewhere: what was signed there is no mark."""
    import base64

    bare = hmac.digest(SECRET.encode(), b"E.1", "sha256")
    assert read(SECRET, f"E.1.{base64.urlsafe_b64encode(bare[:24]).decode()}") is None


def test_neither_part_can_be_changed() -> None:
    epoch, number, signature = sign(SECRET, STAMP).split(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    for forged in (
        f"{epoch}.43.{signature}",
        f"{epoch}.042.{signature}",
        f"0{epoch}.{number}.{signature}",
        f"!.{number}.{signature}",
        f"{epoch}.{number}.{flipped}",
        f"{epoch}.{number}.{signature[:-1]}",
        f"{epoch}.{number}.{signature}=",
        f"{epoch}.{number}.{signature}\n",
        f"{epoch}.{number}.{'A' * 32}",
        f"{epoch}.{number}.",
        f"{epoch}..{signature}",
        f".{number}.{signature}",
        f" {epoch}.{number}.{signature}",
        f"{epoch}.-1.{signature}",
        f"{epoch}.{number}.{signature}.{signature}",
    ):
        assert read(SECRET, forged) is None, forged


def test_digits_of_other_scripts_are_none() -> None:
    signature = sign(SECRET, Stamp("E", 1)).rpartition(".")[2]
    assert read(SECRET, f"E.\u0661.{signature}") is None


def test_what_is_too_long_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> bytes:
        raise AssertionError("signed")

    long = f"{'E' * 200}.1.{'A' * 32}"
    huge_number = f"E.{'1' * 16}.{'A' * 32}"
    monkeypatch.setattr(hmac, "digest", never)
    assert read(SECRET, long) is None
    assert read(SECRET, huge_number) is None
    assert read(SECRET, "") is None


@given(st.text(max_size=250))
def test_no_text_of_a_client_does_any_harm(text: str) -> None:
    assert read(SECRET, text) is None
