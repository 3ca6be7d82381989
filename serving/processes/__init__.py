"""Programs that we start: each stops when told, and never outlives us, however we end."""
