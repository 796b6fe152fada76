"""What clients have learned, compared: ``fedsa analyze``."""
