"""FedSA-LoRA and its family for FederatedScope."""

from pathlib import Path
from runpy import run_path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

CONFIGS = Path("yaml_configs")
FEDERATE = ["nvflare>=2.9"]
SERVE = ["starlette>=0.40", "uvicorn>=0.30"]
TRACK = ["tensorboard>=2.15", "wandb>=0.17"]
DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"]
TEST = [
    *FEDERATE,
    *SERVE,
    *TRACK,
    *DOCS,
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6",
    "setuptools>=70.1",  # a test builds the package
]


class BuildWithConfigurations(build_py):
    """Puts the folder yaml_configs into the package that is built.

    An installation for editing needs no copy: it finds the folder beside
    the package.
    """

    def run(self) -> None:
        """Build the package, then copy the folder."""
        super().run()
        if self.editable_mode:
            return
        for file in sorted(p for p in CONFIGS.rglob("*") if p.is_file()):
            if "__pycache__" not in file.parts:
                target = Path(self.build_lib, "fs_plugins", file)
                self.mkpath(str(target.parent))
                self.copy_file(str(file), str(target))


setup(
    name="fs_plugins",
    version=run_path("fs_plugins/version.py")["__version__"],
    description=(
        "Federated LoRA for FederatedScope: FedSA-LoRA, which shares A and "
        "keeps B, and the methods that it is compared with"
    ),
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "federated learning",
        "LoRA",
        "FedSA-LoRA",
        "parameter-efficient fine-tuning",
        "large language models",
        "FederatedScope",
        "PEFT",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=find_namespace_packages(include=["fs_plugins", "fs_plugins.*"]),
    package_data={"fs_plugins": ["py.typed"], "fs_plugins.report": ["*.j2"]},
    cmdclass={"build_py": BuildWithConfigurations},
    install_requires=[
        "torch>=2.6",
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
    # The demo's models and data are no extra: requirements-demo.txt pins
    # them by hash, and they are installed without what they depend on.
    extras_require={
        "federate": FEDERATE,
        "serve": SERVE,
        "track": TRACK,
        "docs": DOCS,
        "test": TEST,
        "dev": [*TEST, "mypy>=1.10", "ruff>=0.6", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["fedsa = fs_plugins.cli:main"]},
)
