"""Models: a frozen base model, a PEFT adapter on it, and its files."""
