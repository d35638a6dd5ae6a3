"""Training examples out of manuals: what a section is called, or how others refer to it, → the section.

    python -m rag_inspect.rerankers.mini.manuals /usr/share/doc/sqlite3 /usr/share/doc/python3/html --out ../manuals

Reads the HTML below each folder, such as Debian's documentation packages hold, and writes passages.jsonl.gz and
pairs.jsonl.gz as examples.py reads them, all one source. A section is asked for by its heading, which its passage
does not repeat; where it is a definition, or another section has the same heading, by its first sentence, which is
taken out of it; and by sentences on other pages that link to it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rag_inspect.errors import CorpusError, RagInspectError

SOURCE = "manuals"
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
BLOCKS = re.compile(r"article|br|d[dl]|div|li|[ou]l|p|pre|section|t[dhr]|table")
SKIPPED = re.compile(r"aside|button|footer|form|header|nav|script|select|style|svg|title")
FURNITURE = re.compile(
    r"sidebar|navheader|navfooter|headerlink|breadcrumb|\btoc\b|contents|related|\bnav|footer|menu|srclink|search"
)
"""Classes of what stands around the text."""
NO_TEXT = re.compile(r"genindex|_modules/|_sources/|search|whatsnew/changelog|releaselog|/print\.html")
"""Pages that are indexes, code, lists of changes, or other pages over again."""
NUMBER = re.compile(r"^((Chapter|Appendix|Section) )?([A-Z]|\d+)?(\.\d+)*[.:)]? +(?=[A-Z])|[¶#]$")
ASIDE = re.compile(r" ?\([^()]*\b[Ss]ee\b[^()]*\)|^(See|Refer to)( also)?\b.*|, see .*")
SHORTEST, LONGEST = 200, 1500  # characters of a passage
QUERY_WORDS = range(3, 36)
REFERENCE_WORDS = 7  # of a sentence that links to a section, at least
LINKS = 2  # such sentences for one section, and places where one of them stands, at most
DEFINITION = 7  # the level below all headings


@dataclass
class Section:
    """A heading, or a definition's term, and the text up to the next."""

    place: str
    heading: str
    title: str
    """The heading above it."""
    level: int
    text: str = ""


@dataclass
class Page:
    """A file's sections, which of them each anchor lies in, and the sentences that link somewhere."""

    sections: list[Section] = field(default_factory=list)
    anchors: dict[str, Section] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)
    """(sentence, where to, as it is written)"""


class Reader(HTMLParser):
    """Reads one HTML file, `feed` and then `close`, into `page`."""

    def __init__(self, place: str) -> None:
        super().__init__(convert_charrefs=True)
        self.place, self.page = place, Page()
        self._above: dict[int, str] = {}  # level -> the last heading of it
        self._skipping: list[str] = []  # open tags of the element that is passed over
        self._as_it_is = False
        # of the section that is being read:
        self._text: list[str] = []
        self._links: list[tuple[str, str]] = []
        self._anchors: list[tuple[str, int]] = []  # and where in the text
        self._heading: tuple[str, int] | None = None  # its tag, and where in the text it begins
        self._link: tuple[str, int] | None = None  # where to, and the same

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if self._skipping or self._is_furniture(tag, said):
            if tag in self._skipping or not self._skipping:
                self._skipping.append(tag)
            return
        if tag in HEADINGS or tag == "dt":
            self._end_section()
            self._heading = tag, len(self._text)
        anchor = said.get("id") or (said.get("name") if tag == "a" else None)
        if anchor:
            self._anchors.append((anchor, len(self._text)))
        if tag == "a" and said.get("href"):
            self._link = said["href"], len(self._text)
        if BLOCKS.fullmatch(tag):
            self._text.append("\n")
        self._as_it_is |= tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            if tag == self._skipping[-1]:
                self._skipping.pop()
            return
        if self._heading and tag == self._heading[0]:
            self._begin_section(*self._heading)
        elif tag == "a" and self._link:
            target, start = self._link
            self._links.append((_plain("".join(self._text[start:])), target))
            self._link = None
        elif BLOCKS.fullmatch(tag):
            self._text.append("\n")
        self._as_it_is &= tag != "pre"

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._text.append(data if self._as_it_is else re.sub(r"\s*\n\s*", " ", data))

    def close(self) -> None:
        super().close()
        self._end_section()

    @staticmethod
    def _is_furniture(tag: str, said: Mapping[str, str]) -> bool:
        words = f"{said.get('class', '')} {said.get('role', '')}"
        return bool(SKIPPED.fullmatch(tag)) or (
            tag in ("div", "a", "span", "ul", "table") and bool(FURNITURE.search(words))
        )

    def _begin_section(self, tag: str, start: int) -> None:
        heading = NUMBER.sub("", _plain("".join(self._text[start:])))
        level = DEFINITION if tag == "dt" else int(tag[1])
        self._above = {upper: name for upper, name in self._above.items() if upper < level}
        title = self._above[max(self._above)] if self._above else ""
        self._above[level] = heading
        section = Section(f"{self.place}#{len(self.page.sections)}", heading, title, level)
        self.page.sections.append(section)
        self.page.anchors |= {anchor: section for anchor, _ in self._anchors}
        self._text, self._links, self._anchors, self._heading, self._link = [], [], [], None, None

    def _end_section(self) -> None:
        """An anchor with no text after it is the next section's: it stands before that one's heading."""
        last = max((at for at, text in enumerate(self._text) if text.strip()), default=-1)
        if self.page.sections:
            section = self.page.sections[-1]
            self.page.anchors |= {anchor: section for anchor, at in self._anchors if at <= last}
            if not section.text:
                section.text = "\n".join(filter(None, map(_plain, "".join(self._text).split("\n"))))
                self.page.links += self._said(sentences(section.text))
        self._anchors = [(anchor, 0) for anchor, at in self._anchors if at > last]
        self._text, self._links = [], []

    def _said(self, said: Sequence[str]) -> list[tuple[str, str]]:
        """The sentences that link somewhere, and say more than the link does."""
        return [
            (sentence, target)
            for sentence in said
            for words, target in self._links
            if words in sentence and 3 < len(words) < 0.6 * len(sentence) and sentence[-1:] in (".", ":")
        ]


def _plain(text: str) -> str:
    return " ".join(text.split())


def sentences(text: str) -> list[str]:
    """A text's sentences, each within its line."""
    return [part for line in text.split("\n") for part in re.split(r"(?<=[.?!]) +(?=[A-Z])", line)]


def asks(text: str) -> bool:
    """Whether a text says enough to search by."""
    return len(re.findall(r"[A-Za-z]{3,}", text)) >= 2 and len(text.split()) in QUERY_WORDS


def read_manual(folder: Path) -> dict[str, Page]:
    """Path below the folder -> its page, of every HTML file there."""
    pages = {}
    for file in sorted(folder.rglob("*.html")):
        place = file.relative_to(folder).as_posix()
        if not NO_TEXT.search(place):
            reader = Reader(place)
            reader.feed(file.read_text(encoding="utf-8", errors="replace"))
            reader.close()
            pages[place] = reader.page
    return pages


def examples(pages: Mapping[str, Page]) -> Iterator[tuple[Section, str, list[str]]]:
    """(section, its passage's text, its queries) of every section that has both."""
    sections = [section for page in pages.values() for section in page.sections]
    headings = Counter(section.heading for section in sections)
    begun = Counter(sentences(section.text)[0] for section in sections)
    references = _references(pages)
    seen = set()
    for section in sections:
        text, queries = section.text, []
        first = sentences(text)[0]
        if section.level < DEFINITION and headings[section.heading] == 1 and asks(section.heading):
            queries.append(section.heading)
        elif begun[first] == 1 and asks(first) and first.endswith("."):
            queries.append(first)
            term = section.heading if section.level == DEFINITION else ""
            text = f"{term}\n{text[len(first) :].strip()}".strip()
        queries += references.get(section.place, [])[:LINKS]
        text = text[:LONGEST]
        if queries and len(text) >= SHORTEST and text.count(". ") >= 2 and text not in seen:
            seen.add(text)
            yield section, text, queries


def _references(pages: Mapping[str, Page]) -> dict[str, list[str]]:
    """A section's place -> the sentences on other pages that link to it; none that stands all over the manual."""
    often = Counter(sentence for page in pages.values() for sentence, _ in page.links)
    found: dict[str, list[str]] = {}
    for place, page in pages.items():
        for sentence, target in page.links:
            section, said = _target(pages, place, target), ASIDE.sub("", sentence)
            if section and often[sentence] <= LINKS and asks(said) and len(said.split()) >= REFERENCE_WORDS:
                found.setdefault(section.place, []).append(said)
    return found


def _target(pages: Mapping[str, Page], place: str, link: str) -> Section | None:
    """The section that a link on a page leads to, if it is on another page."""
    path, _, anchor = unquote(link).partition("#")
    leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
    page = pages.get(leads_to) if path and leads_to != place else None
    if page is None:
        return None
    return page.anchors.get(anchor) if anchor else next(iter(page.sections), None)


def write(folders: Sequence[Path], out: Path) -> int:
    """Write both files of all folders; how many pairs. Raises CorpusError where a folder gives none."""
    passages: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for number, folder in enumerate(folders):
        before = len(pairs)
        for section, text, queries in examples(read_manual(folder)):
            key = f"{SOURCE}/{number}/{section.place}"
            passages.append({"_id": key, "title": section.title, "text": text})
            pairs += [
                {"source": SOURCE, "query_id": f"{key}/{at}", "query": query, "passage_id": key}
                for at, query in enumerate(queries)
            ]
        if len(pairs) == before:
            raise CorpusError(f"{folder} holds no HTML with sections to ask for; expected a manual's folder")
        print(f"{folder}: {len(pairs) - before} pairs", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("passages", passages), ("pairs", pairs)):
        with gzip.open(out / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return len(pairs)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when both files are written; 1, with one line on stderr, when not."""
    parser = argparse.ArgumentParser(prog="python -m rag_inspect.rerankers.mini.manuals")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a manual in HTML")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")
    options = parser.parse_args(arguments)
    try:
        write(options.folders, options.out)
    except RagInspectError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
