"""How mini is made and judged: its examples, its training loop, the file it becomes. Nothing the app imports.

`python -m rag_inspect.training.train` makes the weights, `python -m rag_inspect.training.judge` measures them;
MODEL_CARD.md, beside the weights, has the commands that made the shipped ones.
"""
