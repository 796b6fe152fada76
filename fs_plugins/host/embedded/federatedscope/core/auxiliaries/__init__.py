"""Builders: from a name in the configuration to an object."""
