"""An experiment: from a YAML file to its folder of results."""

from fs_plugins.experiment.runner import build_runner, resume, run, silence

__all__ = ["build_runner", "resume", "run", "silence"]
