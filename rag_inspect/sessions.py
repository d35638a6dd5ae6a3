"""A visitor, one browser or API client of the app, and the rule for what a visitor may see."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

from rag_inspect.errors import RagInspectError
from rag_inspect.files import PRIVATE, write_text
from rag_inspect.settings import Settings

SECRET_LETTERS = 32


@dataclass(frozen=True)
class Visitor:
    """Whoever asks, by a long random id that is kept in their browser. Whoever knows the id is the visitor."""

    visitor_id: str = ""

    @classmethod
    def from_browser(cls, value: object) -> Visitor:
        """The visitor of an id as a browser sent it: any JSON at all, so what is not text counts as no id."""
        return cls(value) if isinstance(value, str) else LOCAL

    @classmethod
    def new(cls) -> Visitor:
        """A visitor nobody can guess, for a browser that has no id yet."""
        return cls(secrets.token_hex(16))

    @property
    def owner(self) -> str:
        """What is written on a visitor's things: enough to know the visitor again, and no way back to the id."""
        raw = self.visitor_id.encode("utf-8", "replace")
        return hashlib.sha256(raw).hexdigest() if raw else ""


LOCAL = Visitor()
"""Nobody in particular: the command line, and an API client that sends no id. In public mode LOCAL sees nothing."""


class Sessions:
    """Which visitor may see what, and what a browser's name for itself is sealed with."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._owners: WeakKeyDictionary[object, str] = WeakKeyDictionary()  # an entry goes with its thing

    def may_see(self, visitor: Visitor, owner: str) -> bool:
        """In public mode a visitor sees only their own runs and jobs; on a laptop everything is yours."""
        return not self._settings.public or (owner != "" and owner == visitor.owner)

    def give(self, thing: object, visitor: Visitor) -> None:
        """Note that the thing (a job, say) is this visitor's, for as long as it lives."""
        self._owners[thing] = visitor.owner

    def owner(self, thing: object) -> str:
        """Whose the thing is, as `Visitor.owner`; "" where it was given to nobody."""
        return self._owners.get(thing, "")

    @cached_property
    def browser_secret(self) -> str:
        """What a browser's name for itself is sealed with; kept on disk, so that its runs outlive a restart."""
        path = self._settings.home / "browser.secret"
        with suppress(OSError, UnicodeDecodeError):
            if len(kept := path.read_text(encoding="utf-8")) == SECRET_LETTERS:
                return kept
        secret = secrets.token_hex(SECRET_LETTERS // 2)
        with suppress(RagInspectError):  # a full disk: then it lasts until the next restart
            write_text(path, secret, PRIVATE)
        return secret
