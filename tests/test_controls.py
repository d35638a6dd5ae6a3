"""What the choices of the page are called."""

from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import Availability
from rag_inspect.ui.controls import model_label


def test_a_model_that_is_not_here_says_so_in_three_words():
    reason = "not on disk, and " + "the hub did not answer: Temporary failure in name resolution " * 5
    label = model_label(RERANKERS["base"], Availability(available=False, on_disk=False, reason=reason))
    assert label == "base · not on disk, no hub"
    assert "download" in model_label(
        RERANKERS["base"], Availability(available=True, on_disk=False, reason="choosing it downloads")
    )
