"""What the site shows besides docs/: README.md, benchmarks, docstrings.

Links between documents are those of the repository, so that they work there;
here they become those of the site.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = (
    "LICENSE",
    "CITATION.cff",
    "[A-Z]*.md",
    "benchmarks/results/*/README.md",
    "benchmarks/results/*/*.png",
    "benchmarks/results/*/*.svg",
    "yaml_configs/**/*.yaml",
)
LINK = re.compile(r"\]\((?!https://)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside docs/, and a page for each Python module."""
    for pattern in OUTSIDE:
        for file in sorted(ROOT.glob(pattern)):
            files.append(
                File.generated(config, _in_site(file), abs_src_path=str(file))
            )
    names = list(_modules())
    rows = [f"- [`{name}`]({name}.md)" for name in names]
    pages = {"index": "\n".join(["# Python reference\n", *rows])}
    pages |= {name: f"# `{name}`\n\n::: {name}\n" for name in names}
    for name, text in pages.items():
        uri = f"reference/{name}.md"
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of the repository, as links of the site."""
    if page.file.abs_src_path is None:
        return markdown
    file = Path(page.file.abs_src_path).resolve()

    def as_link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(file.parent / match[1]))
        if not target.is_file():
            return match[0]
        start = Path(_in_site(file)).parent
        link = os.path.relpath(_in_site(target), start)
        return f"]({link}{match[2] or ''})"

    return LINK.sub(as_link, markdown)


def _in_site(file: Path) -> str:
    """Where a file of the repository is in the site."""
    name = file.relative_to(ROOT).as_posix()
    return "index.md" if name == "README.md" else name.removeprefix("docs/")


def _modules() -> Iterator[str]:
    """The modules of the package; the stand-in's are FederatedScope's."""
    for file in sorted((ROOT / "fs_plugins").rglob("*.py")):
        name = file.relative_to(ROOT).with_suffix("")
        if "embedded" not in name.parts and name.name != "__main__":
            yield ".".join(p for p in name.parts if p != "__init__")
