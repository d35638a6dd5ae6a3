"""The languages of a corpus: what its card says, else a guess from its text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from rag_inspect.types import Corpus

_ENGLISH = "the of and to a in is that for it was with as on are by this be from at or an which what how"
WORDS = frozenset(_ENGLISH.split())
_OTHERS = """der und ist nicht ein eine zu den mit von für auf le la les des et est une dans pour que qui du au el los
las y en de un una por para del se il di che non della sono het een van niet op zijn uma não em da"""
OTHER_WORDS = frozenset(_OTHERS.split())  # German, French, Spanish, Italian, Dutch, Portuguese
ENGLISH_SHARE = (
    0.12  # lowest share of these words in English text; measured: English 28-36 %, German 3 %, Spanish 2 %
)
OTHER_SHARE = (
    0.08  # the same for text in these languages; measured: German 16 %, Spanish 35 %, English 0.3 % at most
)
FOREIGN_SHARE = 0.3  # lowest share of non-Latin letters in text of another script
KANA_SHARE = 0.1  # in Japanese text a third or more is kana, in Chinese text almost nothing
LANGUAGE_NAMES = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese", "nl": "Dutch",
    "pl": "Polish", "zh": "Chinese", "ja": "Japanese", "other": "another language",
}  # fmt: skip
THREE_LETTERS = {
    "eng": "en", "deu": "de", "ger": "de", "spa": "es", "fra": "fr", "fre": "fr", "ita": "it", "por": "pt", "nld": "nl",
    "dut": "nl", "pol": "pl", "zho": "zh", "chi": "zh", "jpn": "ja",
}  # fmt: skip
_SAMPLE = 200  # passages, and this many queries, are read to guess the language


def find_languages(corpus: Corpus) -> tuple[tuple[str, ...], Literal["card", "text", ""]]:
    """Return the corpus's languages and their source: its card, else a guess from its text; else ((), "")."""
    codes = tuple(dict.fromkeys(filter(None, map(language_code, corpus.card.language))))
    if codes:
        return codes, "card"
    texts = [*(p.text for p in corpus.passages[:_SAMPLE]), *(q.text for q in corpus.queries[:_SAMPLE])]
    found = guess_language(texts)
    return ((found,), "text") if found else ((), "")


def language_code(written: str) -> str:
    """Return the two-letter code: `en` for en, EN-gb, en_US, eng or English; "" if the language is unknown."""
    word = re.split("[-_]", written.strip().lower())[0]
    known = {name.lower(): code for code, name in LANGUAGE_NAMES.items()} | THREE_LETTERS
    return known.get(word, word if re.fullmatch("[a-z]{2,3}|multilingual", word) else "")


def guess_language(texts: Iterable[str]) -> str:
    """Guess "en", "zh", "ja" or "other"; "" if the text is too short or unclear."""
    words: list[str] = []
    kana = ideographs = foreign = letters = 0
    for text in texts:
        words += re.findall(r"[^\W\d_]+", text.lower())
        letters += sum(map(str.isalpha, text))
        kana += sum("\u3040" <= letter <= "\u30ff" for letter in text)
        ideographs += sum("\u3400" <= letter <= "\u9fff" for letter in text)
        foreign += sum(
            letter > "\u024f" and letter.isalpha() for letter in text
        )  # after the Latin blocks of Unicode
    if letters and (kana + ideographs) / letters > FOREIGN_SHARE:
        return "ja" if kana / (kana + ideographs) > KANA_SHARE else "zh"
    if letters and foreign / letters > FOREIGN_SHARE:
        return "other"
    if len(words) < 50:
        return ""
    if sum(word in WORDS for word in words) / len(words) >= ENGLISH_SHARE:
        return "en"
    return "other" if sum(word in OTHER_WORDS for word in words) / len(words) >= OTHER_SHARE else ""
