"""Who asks: the session a client made up, and the address that the server or its proxy saw."""

from types import SimpleNamespace

import pytest

from rag_inspect.admission import OURSELVES, Asker
from rag_inspect.ui.askers import read_asker


def make_request(host, forwarded=None):
    client = SimpleNamespace(host=host) if host else None
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    return SimpleNamespace(session_hash="a tab", client=client, headers=headers)


@pytest.mark.parametrize(
    ("host", "forwarded", "on_space", "address"),
    [
        ("9.9.9.9", None, False, "9.9.9.9"),
        ("9.9.9.9", "8.8.8.8", False, "9.9.9.9"),  # the client's own word
        ("10.0.0.3", "8.8.8.8", True, "8.8.8.8"),
        ("10.0.0.3", "1.1.1.1, 8.8.8.8, 10.0.0.9", True, "8.8.8.8"),
        ("10.0.0.3", "8.8.8.8, no address", True, "8.8.8.8"),
        ("10.0.0.3", "10.0.0.9", True, "10.0.0.3"),
        ("10.0.0.3", None, True, "10.0.0.3"),
        ("2606:4700:1:2:3:4:5:6", None, False, "2606:4700:1:2::/64"),  # one subscriber has all of it
        ("::ffff:9.9.9.9", None, False, "9.9.9.9"),
        ("fe80::1%eth0", None, False, "fe80::/64"),
        ("testclient", None, False, "testclient"),
        (None, None, False, ""),
    ],
)
def test_the_address_is_not_the_clients_own_word(host, forwarded, on_space, address):
    assert read_asker(make_request(host, forwarded), on_space=on_space) == Asker("a tab", address)


def test_without_a_request_we_ask_ourselves():
    assert read_asker(None, on_space=True) is OURSELVES
