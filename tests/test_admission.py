"""Admission: so many in all, so many each, and the next is refused at once."""

import pytest

from rag_inspect.admission import OURSELVES, Admission, Asker
from rag_inspect.errors import InputError


def test_the_next_is_refused_until_one_ends():
    door = Admission("evaluations", most=3, each=2, each_address=3)
    ann = [door.take(Asker("ann")), door.take(Asker("ann"))]
    with pytest.raises(InputError, match="you already have 2 evaluations running or waiting"):
        door.take(Asker("ann"))
    with door.take(Asker("bob")):
        assert len(door) == 3
        with pytest.raises(InputError, match="this machine already has 3 evaluations running or waiting"):
            door.take(Asker("eve"))
    for _ in range(2):
        ann[0].release()  # once is enough, twice is no second place
    assert len(door) == 1
    with door.take(Asker("ann")):
        assert len(door) == 2


def test_this_process_itself_takes_what_there_is():
    door = Admission("searches", most=3, each=1, each_address=1)
    for _ in range(3):
        door.take(OURSELVES)
    with pytest.raises(InputError, match="this machine"):
        door.take(OURSELVES)


def test_names_made_up_at_one_address_leave_room_for_others():
    door = Admission("searches", most=4, each=1, each_address=3)
    for name in ("ann", "bob", "eve"):
        door.take(Asker(name, "203.0.113.7"))
    with pytest.raises(InputError, match="your network address already has 3 searches running or waiting"):
        door.take(Asker("dan", "203.0.113.7"))
    door.take(Asker("dan", "203.0.113.8"))
