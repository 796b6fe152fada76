"""The command line of ``python federatedscope/main.py``."""

import argparse
import re


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Parse ``--cfg FILE [--client_cfg FILE] [key value ...]``."""
    parser = argparse.ArgumentParser(description="FederatedScope")
    parser.add_argument("--cfg", dest="cfg_file")
    parser.add_argument("--client_cfg", dest="client_cfg_file")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    return parser.parse_args(args)


def parse_client_cfg(opts: list[str]) -> tuple[list[str], list[str]]:
    """Split ``key value`` pairs into those of all and those of one client.

    A key that is for one client begins with ``client_<number>.``.
    """
    pairs = list(zip(opts[::2], opts[1::2], strict=True))
    are_of_one = [bool(re.match(r"client_\d+\.", key)) for key, _ in pairs]
    split: tuple[list[str], list[str]] = ([], [])
    for pair, is_of_one in zip(pairs, are_of_one, strict=True):
        split[is_of_one].extend(pair)
    return split
