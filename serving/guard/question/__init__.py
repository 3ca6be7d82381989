"""How a request is cleaned: limits, fields, control tokens, encoded text, and what its answer has to know of it."""
