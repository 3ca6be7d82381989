"""What recipes run: in come a typed recipe and a `Context`, out comes an `Outcome` with a registered checkpoint.

Each method is a module with `run(recipe, context)`. `trainer` is the loop that gradient methods share, `run_folder`
what an interrupted run continues from. Importing this package does not import torch; most of its modules do.
"""
