"""Train and judge mini: its examples, its training loop, and the file it becomes. The app imports nothing from here.

`python -m rag_inspect.training.train` makes the weights, `python -m rag_inspect.training.judge` measures them;
MODEL_CARD.md, beside the weights, has the commands that made the shipped weights.
"""
