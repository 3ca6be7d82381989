"""Starts vLLM and keeps it running: the model is found, prepared and verified, the server started, watched and stopped.

In come a reference to a model and the settings; out go an engine that listens on a port, the gateway beside it under
`signet serve`, and lines that say how it is. Nothing of it outlives us. `plugin` runs inside vLLM's own processes.
"""
