"""How long, and how much memory, the asymmetry analysis takes.

    python benchmarks/asymmetry.py [--clients 100]

The adapters have the size of all-MiniLM-L6-v2's with LoRA r 8 on query and
value.  Their values are drawn at random, as neither time nor memory depends on
them.  Two clients are analysed first, so that the libraries have allocated
what they need for themselves; the memory reported is by how much the peak
rises after that.
"""

import argparse
import resource
import time

import torch

import fs_plugins  # noqa: F401  makes federatedscope importable
from fs_plugins.analysis.asymmetry import measure
from fs_plugins.policy import Role

LAYERS, RANK, WIDTH = 12, 8, 384  # six of query, six of value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=100)
    number = parser.parse_args().clients
    torch.manual_seed(0)
    shapes = {Role.A: (RANK, WIDTH), Role.B: (WIDTH, RANK)}
    roles = {
        f"layer{layer}.lora_{role.value}.weight": role
        for layer in range(LAYERS)
        for role in shapes
    }
    initial = {name: torch.randn(shapes[role]) for name, role in roles.items()}
    clients = [
        {n: start + torch.randn_like(start) for n, start in initial.items()}
        for _ in range(number)
    ]
    measure(clients[:2], initial, roles)
    before = _peak()
    begin = time.perf_counter()
    measure(clients, initial, roles)
    seconds = time.perf_counter() - begin
    adapters = sum(t.nbytes for client in clients for t in client.values())
    print(f"{number} clients: {seconds:.2f} s")
    print(
        f"adapters {adapters / 1e6:.1f} MB, peak {_peak() / 1e6:.0f} MB, "
        f"{(_peak() - before) / 1e6:.1f} MB of it in the analysis "
        f"({(_peak() - before) / adapters:.2f} times the adapters)"
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
