"""Admission: so many in all, so many each, and the next is refused at once."""

import pytest

from rag_inspect.admission import Admission
from rag_inspect.errors import InputError


def test_the_next_is_refused_until_one_ends():
    door = Admission("evaluations", most=3, each=2)
    ann = [door.take("ann"), door.take("ann")]
    with pytest.raises(InputError, match="you already have 2 evaluations running or waiting"):
        door.take("ann")
    with door.take("bob"):
        assert len(door) == 3
        with pytest.raises(InputError, match="this machine already has 3 evaluations running or waiting"):
            door.take("eve")
    for _ in range(2):
        ann[0].release()  # once is enough, twice is no second place
    assert len(door) == 1
    with door.take("ann"):
        assert len(door) == 2


def test_this_process_itself_takes_what_there_is():
    door = Admission("searches", most=3, each=1)
    for _ in range(3):
        door.take("")
    with pytest.raises(InputError, match="this machine"):
        door.take("")
