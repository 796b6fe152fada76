"""The server and the clients of every method in ``policy.METHODS``."""
