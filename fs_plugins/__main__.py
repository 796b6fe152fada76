"""``python -m fs_plugins``: the command ``fedsa``."""

from fs_plugins.cli import main

if __name__ == "__main__":
    main()
