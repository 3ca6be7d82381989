"""Processes of a gateway: started, watched, given new settings, and stopped without losing an answer."""
