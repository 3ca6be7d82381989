"""What happens to a question before it goes to an engine, a module for each step."""
