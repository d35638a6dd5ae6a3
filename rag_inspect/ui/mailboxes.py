"""What gradio keeps for clients that never fetch it: each session's results wait in a mailbox, without a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradio.queueing import Queue

from rag_inspect.ui.guard import Listeners

MOST = 300  # messages that nobody has come for; a call leaves three or more, one of them with its result


@dataclass(frozen=True)
class Mailboxes:
    """The mailboxes of one app; `queue` returns its queue."""

    queue: Callable[[], Queue]
    listeners: Listeners
    most: int = MOST

    async def trim(self) -> None:
        """Drop the oldest mailboxes to which nobody listens, until at most `most` messages wait in such ones."""
        queue = self.queue()
        boxes = queue.pending_messages_per_session
        unheard = {session: box.qsize() for session, box in boxes.items() if not self.listeners.has(session)}
        total = sum(unheard.values())
        for session, count in unheard.items():
            if total <= self.most:
                break
            if count:
                await queue.clean_events(session_hash=session)  # nothing more is sent to it
                boxes.pop(session, None)
                queue.pending_event_ids_session.pop(session, None)
                total -= count
