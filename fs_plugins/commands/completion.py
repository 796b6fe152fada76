"""Completes the words of a command line."""

from pathlib import Path

from fs_plugins.configurations import find_configuration, packaged_names


def complete_files(begun: str) -> list[str]:
    """Complete a word to YAML files and folders, or to a file's variations.

    The names of the project's own experiments come last.
    """
    file, plus, last = begun.rpartition("+")
    if plus:
        from fs_plugins.config.load import variations_of

        known = variations_of(find_configuration(file.partition("+")[0]))
        return [f"{file}+{name}" for name in known if name.startswith(last)]
    folder, _, last = begun.rpartition("/")
    paths = sorted(Path(folder or ".").glob(f"{last}*"))
    here = [f"{path}/" for path in paths if path.is_dir()] + [
        str(path) for path in paths if path.suffix in (".yaml", ".yml")
    ]
    named = [name for name in packaged_names() if name.startswith(begun)]
    return here + [name for name in named if name not in here]
