"""The comparison of what clients have learned: ``fedsa analyze``."""
