"""The terms that BM25 counts: words, stemmed where the language is known, identifiers whole and in parts, and bigrams."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import regex

VERSION = 1  # raise it when the terms of a text change: an index made with other terms is built anew

# Scripts that put no space between words: their terms are the pairs of neighbouring letters.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_RUN = regex.compile(
    rf"(?P<unspaced>[{_UNSPACED}ー々]\p{{M}}*(?:[{_UNSPACED}ー々]\p{{M}}*)*)"
    # A word, or an identifier: words joined by one of _ - . : / @ + without a space, such as get_user_id or v1.2.
    rf"|(?P<word>(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+(?:[-_.:/@+'’](?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+)*(?:\+\+|#)?)"
)
_LETTER = regex.compile(r"\p{L}\p{M}*|\P{L}")
_PART = regex.compile(r"[^-_.:/@+'’#]+")
_CAMEL = regex.compile(r"(?<=[\p{Ll}\p{N}])(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})")


class Terms:
    """Splits texts into terms; `languages` are two-letter codes. Words are stemmed only if there is exactly one.

    The stemmer is Snowball's (PyStemmer); a language that it does not know is not stemmed. Frequent words are kept:
    BM25 gives them little weight by itself.
    """

    def __init__(self, languages: Sequence[str] = ()) -> None:
        self.language = languages[0] if len(languages) == 1 and languages[0] in _list_stemmed() else ""

    def __call__(self, text: str) -> list[str]:
        """Return the terms of a text in order, repeats included."""
        return list(self._split(unicodedata.normalize("NFKC", text)))

    @property
    def name(self) -> str:
        """Identifies all that the terms of a text depend on."""
        return f"terms{VERSION}-{self.language or 'unstemmed'}"

    def _split(self, text: str) -> Iterator[str]:
        for run in _RUN.finditer(text):
            if run["unspaced"]:
                letters = _LETTER.findall(run[0])
                yield from map("".join, pairwise(letters)) if letters[1:] else letters
            else:
                yield from self._split_word(run[0])

    def _split_word(self, word: str) -> Iterator[str]:
        """Yield the word's stem; of an identifier, the whole without stemming, then the stem of each part."""
        word = word.removesuffix("'s").removesuffix("’s")  # the English genitive
        parts = [part for run in _PART.findall(word) for part in _CAMEL.split(run) if part]
        whole = word.lower()
        if len(parts) > 1 or parts[:1] != [word]:
            yield whole
        yield from (self._stem(part.lower()) for part in parts)

    @cached_property
    def _stem(self) -> Callable[[str], str]:
        if not self.language:
            return str
        from Stemmer import Stemmer

        stem: Callable[[str], str] = Stemmer(self.language).stemWord
        return stem


def _list_stemmed() -> frozenset[str]:
    """Return the codes of the languages that Snowball stems."""
    codes = (
        "ar ca cs da de el en eo es et eu fa fi fr ga hi hu hy id it lt ne nl no pl pt ro ru sr sv ta tr yi"
    )
    return frozenset(codes.split())
