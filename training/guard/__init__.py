"""The guard's own models: how its classifiers and its tagger of names are trained."""
