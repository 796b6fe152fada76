"""What the command ``fedsa`` does, a file for each subcommand."""
