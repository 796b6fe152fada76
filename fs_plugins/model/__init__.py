"""A frozen base model with its PEFT adapter."""
