"""Pages that FastAPI serves: administration, detection, moderation, receipts; and who may ask for them."""
