"""How the texts of an answer are cleaned: markup, the system prompt, masks and the values that come back."""
