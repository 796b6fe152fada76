"""The server and the client of every method in ``policy.METHODS``."""
