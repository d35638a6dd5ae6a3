"""Files are written whole or not at all, whatever goes wrong in between."""

import errno
import os
import re
import stat
import subprocess
import sys
import time
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_inspect.errors import RagInspectError
from rag_inspect.files import (
    check_folder,
    set_aside,
    sweep_drafts,
    sweep_set_aside,
    write_bytes,
    write_text,
    write_whole,
)


@pytest.fixture
def path(tmp_path):
    """A file with something in it, alone in its folder."""
    return write_text(tmp_path / "notes.txt", "old")


@pytest.fixture
def umask():
    """The process's umask set to 027 for one test."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def permissions(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_what_is_read(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    assert write_bytes(path, b"\x00\xff\r\n") == path and path.read_bytes() == b"\x00\xff\r\n"
    assert write_bytes(path, memoryview(b"shorter")) == path and path.read_bytes() == b"shorter"
    assert list(path.parent.iterdir()) == [path]


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_written_in_utf_8_with_its_own_line_ends(tmp_path_factory, text):
    path = write_text(tmp_path_factory.getbasetemp() / "any.txt", text)
    assert path.read_bytes().decode("utf-8") == re.sub("[\ud800-\udfff]", "?", text)


@pytest.mark.parametrize("error", [ValueError("half way"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_an_error_in_the_middle_leaves_the_old_file_and_no_draft(path, error):
    def write_half():
        with write_whole(path) as draft:
            draft.write_text("half of the ne")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_process_that_is_killed_in_the_middle_leaves_the_old_file(path):
    code = (
        "import os, sys; from pathlib import Path; from rag_inspect.files import write_whole\n"
        "with write_whole(Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half of the ne')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_text() == "old"
    assert write_text(path, "new").read_text() == "new"  # what the other left is in nobody's way


def test_the_old_file_is_there_until_the_new_one_is_whole(path):
    with write_whole(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old" and draft.parent == path.parent
    assert path.read_text() == "new" and not draft.exists()


def test_writers_of_one_path_do_not_mix(path):
    """Each thread's text is of one letter; under one temporary name they would write into each other's."""
    texts = {letter * 100_000 for letter in "abcd"}
    start, failures, seen = Barrier(len(texts)), [], set()

    def write(text):
        start.wait()
        try:
            for _ in range(10):
                write_text(path, text)
                seen.add(path.read_text())
        except Exception as error:
            failures.append(error)

    threads = [Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and seen <= texts and list(path.parent.iterdir()) == [path]


def test_two_drafts_of_one_path_in_one_thread_are_two_files(path):
    with write_whole(path) as first, write_whole(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_full_disk_leaves_nothing_behind_and_is_said(path, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace" if call == "replace" else f"os.{call}", full)
    with pytest.raises(
        RagInspectError, match=r"notes\.txt cannot be written \(No space left on device\); free some space"
    ):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_disk_that_fills_while_the_block_writes_is_said_too(path):
    def write_too_much():
        with write_whole(path) as draft, open("/dev/full", "wb", buffering=0) as full:
            draft.write_bytes(b"some")
            full.write(b"more")

    with pytest.raises(RagInspectError, match=r"notes\.txt cannot be written \(No space left"):
        write_too_much()
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_folder_under_that_name_stays_and_is_named(tmp_path):
    (tmp_path / "notes.txt" / "inside").mkdir(parents=True)
    with pytest.raises(RagInspectError, match=r"notes\.txt cannot be written .*a folder has this name"):
        write_text(tmp_path / "notes.txt", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt" / "inside").is_dir()


@pytest.mark.parametrize("below", ["a.txt", "deeper/a.txt"])
def test_a_file_in_the_place_of_a_folder_stays_and_is_named(path, below):
    with pytest.raises(RagInspectError, match=r"cannot be written .*a file is in the way of the folder"):
        write_text(path / below, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("code", "says"), [(errno.EROFS, "choose another folder"), (errno.EACCES, "allow writing there")]
)
def test_a_place_that_is_read_only_is_said(path, monkeypatch, code, says):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(
        RagInspectError, match=rf"notes\.txt cannot be written \({os.strerror(code)}\); {says}"
    ):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_a_file_has_the_permissions_that_any_new_file_gets(tmp_path, umask):
    (tmp_path / "other").write_text("")
    assert permissions(write_text(tmp_path / "a", "")) == permissions(tmp_path / "other") == 0o640


def test_permissions_hold_where_the_block_puts_a_file_of_its_own(path, umask):
    """As safetensors' save_file does: the file it leaves may be read by its owner alone."""
    with write_whole(path) as draft:
        draft.unlink()
        os.close(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600))
    assert permissions(path) == 0o640


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1))
def test_a_name_that_a_file_may_have_can_be_written(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("names")
    path = folder / name
    try:
        path.write_text("")
    except OSError:  # "..", or too long
        with pytest.raises(RagInspectError, match="cannot be written"):
            write_text(path, "new")
        assert not list(folder.iterdir())
    else:
        assert write_text(path, "new").read_text() == "new" and list(folder.iterdir()) == [path]


def test_a_name_of_full_length_can_be_written(tmp_path):
    path = write_text(tmp_path / ("ä" * 125 + ".json"), "new")  # 255 bytes, all that most file systems allow
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_checking_a_folder_leaves_nothing_behind(tmp_path):
    check_folder(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RagInspectError, match="choose another folder"):
        check_folder(tmp_path / "file")


def test_what_is_damaged_is_set_aside_with_what_belongs_to_it_and_never_over_another(tmp_path):
    kept = []
    for content in ("first", "second"):
        (tmp_path / "scores").write_text(content)
        (tmp_path / "scores-wal").write_text(f"{content} log")
        kept.append(set_aside(tmp_path / "scores", ["-wal", "-shm"]))
    assert [path.read_text() for path in kept] == ["first", "second"]
    assert all(path.name.startswith("scores.damaged-20") for path in kept)
    assert kept[0].with_name(f"{kept[0].name}-wal").read_text() == "first log"
    assert not (tmp_path / "scores").exists() and not (tmp_path / "scores-wal").exists()


def test_drafts_of_processes_that_died_are_swept(tmp_path):
    ours = [".run.json.0123456789abcdef.new", ".run.json.fedcba9876543210.new"]
    others = ["run.json", ".run.json.new", "run.json.0123456789abcdef.new", ".hidden"]
    for name in ours + others:
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1, 1))
    os.utime(tmp_path / ours[1])  # somebody is writing it now
    sweep_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {ours[1], *others}
    sweep_drafts(tmp_path / "none")


def test_what_was_set_aside_is_swept_after_a_month(tmp_path):
    now = time.time()
    old, young = (time.strftime("%Y%m%d-%H%M%S", time.localtime(now - days * 86400)) for days in (31, 29))
    gone = [f"chroma.damaged-{old}", f"scores.sqlite.damaged-{old}-2", f"scores.sqlite.damaged-{old}-2-wal"]
    kept = [f"chroma.damaged-{young}", f"scores.sqlite.damaged-{young}-shm"]
    others = ["chroma", "mine.damaged", "mine.damaged-99999999-999999", f"mine.damaged-{old}.txt"]
    for name in gone + kept + others:
        (tmp_path / name).mkdir() if name.startswith("chroma") else (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - 99 * 86400,) * 2)  # when it was last written says nothing
    (tmp_path / gone[0] / "inside").write_text("vectors")
    sweep_set_aside(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, *others}
    sweep_set_aside(tmp_path / "none")


def test_a_link_that_was_set_aside_is_deleted_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").touch()
    (tmp_path / "chroma.damaged-20200101-000000").symlink_to(tmp_path / "elsewhere")
    sweep_set_aside(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"] and (
        tmp_path / "elsewhere" / "mine"
    ).exists()


def test_a_killed_process_leaves_a_draft_that_the_sweep_knows(path):
    code = (
        "import os, sys; from pathlib import Path; from rag_inspect.files import write_whole\n"
        "with write_whole(Path(sys.argv[1])): os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)])
    assert len(list(path.parent.iterdir())) == 2
    sweep_drafts(path.parent, older=-1)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
