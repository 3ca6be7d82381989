"""From data to a signed checkpoint: data, recipes, compression, evaluation, and the model registry.

In come chats, a recipe and a base model; out comes a checkpoint in the registry, whose signed manifest is all that
serving and monitoring know of training.
"""
