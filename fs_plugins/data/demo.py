"""The demo's data: BBC News (Greene and Cunningham, ICML 2006)."""

from pathlib import Path

from fs_plugins.data.assets import find_asset
from fs_plugins.data.examples import Examples
from fs_plugins.errors import unknown

DEMOS = ("bbc",)


def load_demo(name: str) -> Examples:
    """The examples of ``data.type: <name>@demo``.

    Raises:
        UserError: unknown, or not installed.

    """
    if name not in DEMOS:
        raise unknown(
            "data.type", f"{name}@demo", [f"{d}@demo" for d in DEMOS]
        )
    return _bbc(find_asset(name, "data.type"))


def _bbc(folder: Path) -> Examples:
    """One folder a topic, one file a document.

    100 documents are there twice, but for white space.  The second goes, so
    that no document is both trained and tested on.
    """
    topics = sorted(path.name for path in folder.iterdir() if path.is_dir())
    seen: dict[str, int] = {}
    for number, topic in enumerate(topics):
        for file in sorted((folder / topic).glob("*.txt")):
            text = file.read_text(encoding="utf-8", errors="replace")
            seen.setdefault(" ".join(text.split()), number)
    return Examples(
        [(text,) for text in seen], list(seen.values()), tuple(topics)
    )
