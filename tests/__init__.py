"""The tests, as a package: `from tests.fixed_reranker import FixedReranker`."""
