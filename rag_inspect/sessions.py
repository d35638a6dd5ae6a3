"""A visitor (one browser or API client of the app) and the rule for what a visitor may see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from rag_inspect.settings import Settings


@dataclass(frozen=True)
class Visitor:
    """One browser, known by a long random id that it keeps. Whoever has the id is the visitor."""

    visitor_id: str = ""

    @classmethod
    def from_browser(cls, value: object) -> Visitor:
        """Return the visitor with the id a browser sent. It may be any JSON: a value that is not text counts as no id."""
        return cls(value) if isinstance(value, str) else LOCAL

    @property
    def owner(self) -> str:
        """The mark on a visitor's runs and jobs: a hash that identifies the visitor and does not reveal the id."""
        raw = self.visitor_id.encode("utf-8", "replace")
        return hashlib.sha256(raw).hexdigest() if raw else ""


LOCAL = Visitor()
"""The command line, and API clients that send no id. In public mode LOCAL sees no runs or jobs."""


class Sessions:
    """Decides which visitor may see what."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def may_see(self, visitor: Visitor, owner: str) -> bool:
        """Return whether the visitor may see the owner's runs and jobs: in public mode only their own, else all."""
        return not self._settings.public or (owner != "" and owner == visitor.owner)
