"""What the server's start asks about the machine, for a stand-in that computes nothing."""

from types import SimpleNamespace

current_platform = SimpleNamespace(is_cpu=lambda: False)
