"""Settings: what the environment says, and in words what it must not say."""

import os
import sys

import pytest

from rag_inspect.cli import main
from rag_inspect.errors import InputError
from rag_inspect.settings import Settings, half_of_memory


@pytest.mark.parametrize(
    ("environ", "host", "public", "may_download"),
    [
        ({}, "127.0.0.1", False, True),
        ({}, "localhost", False, True),
        ({}, "::1", False, True),
        ({}, "0.0.0.0", True, False),
        ({}, "tools.example", True, False),
        ({"RAG_INSPECT_PUBLIC": "on"}, "127.0.0.1", True, False),
        ({"RAG_INSPECT_PUBLIC": "off"}, "0.0.0.0", False, True),
        ({"RAG_INSPECT_PUBLIC": ""}, "0.0.0.0", True, False),
        ({"SPACE_ID": "ann/demo"}, "0.0.0.0", True, False),
        ({"SPACE_ID": "ann/demo"}, "127.0.0.1", True, False),
        ({"SPACE_ID": "ann/demo", "RAG_INSPECT_DOWNLOADS": "on"}, "0.0.0.0", True, True),
        ({"RAG_INSPECT_DOWNLOADS": "off"}, "127.0.0.1", False, False),
    ],
)
def test_public_mode_is_one_setting(environ, host, public, may_download):
    found = Settings.from_env(environ).open_to(host)
    assert bool(found.public) is public and found.may_download is may_download
    assert found.on_space is ("SPACE_ID" in environ)


def test_numbers_of_megabytes_are_read():
    found = Settings.from_env({"RAG_INSPECT_MODEL_MEMORY": " 4000 ", "RAG_INSPECT_CACHE_MB": "1"})
    assert (found.model_memory_mb, found.cache_mb) == (4000, 1)


def test_what_is_not_set_has_its_default():
    found = Settings.from_env({"RAG_INSPECT_MODEL_MEMORY": ""})
    assert found.cache_mb == 2000 and found.model_memory_mb == half_of_memory() > 0


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system in a POSIX way")
def test_the_default_is_half_of_what_this_machine_has_or_less():
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < half_of_memory() <= whole / 2_000_000


@pytest.mark.parametrize("name", ["RAG_INSPECT_MODEL_MEMORY", "RAG_INSPECT_CACHE_MB"])
@pytest.mark.parametrize("value", ["lots", "0", "-1", "4 GB", "1e9", "1.5", "٣", "9" * 5000])
def test_nonsense_is_refused_in_one_line(name, value, monkeypatch, capsys):
    with pytest.raises(InputError, match=f"{name} is .*; expected a whole number of MB above 0") as caught:
        Settings.from_env({name: value})
    assert len(str(caught.value)) < 200
    monkeypatch.setenv(name, value)
    assert main(["corpora"]) == 1
    assert capsys.readouterr().err.startswith(f"rag-inspect: {name} is ")


@pytest.mark.parametrize("below", ["", "/home/of/mine"])
def test_a_home_that_can_be_no_folder_is_refused_before_anything_slow(tmp_path, below):
    file = tmp_path / "plain"
    file.write_text("a file")
    with pytest.raises(
        InputError, match=r"RAG_INSPECT_HOME is '.*plain.*no folder; set RAG_INSPECT_HOME to a folder"
    ):
        Settings.from_env({"RAG_INSPECT_HOME": f"{file}{below}"})
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="but it is no folder"):
        Settings.from_env({"RAG_INSPECT_HOME": str(tmp_path / "gone")})


def test_a_home_may_be_made_later(tmp_path):
    made_later = tmp_path / "not" / "yet"
    assert Settings.from_env({"RAG_INSPECT_HOME": str(made_later)}).home == made_later
    (tmp_path / "link").symlink_to(tmp_path)
    assert Settings.from_env({"RAG_INSPECT_HOME": str(tmp_path / "link")}).home == tmp_path / "link"
