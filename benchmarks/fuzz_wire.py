"""Spoilt payloads against the decoder, by the million.

    python benchmarks/fuzz_wire.py                    # 1 000 000 inputs
    python benchmarks/fuzz_wire.py --inputs 50000 --seed 7

Good payloads are spoilt in ways that know their format: bits, bytes, cuts,
splices, repetitions; numbers, names, types, shapes and offsets in the header;
lengths that lie; nesting.  Each must be refused with a
``WireError``, or be what the receiver expects, finite and complete.  The
process may allocate 1 GB on top of what it begins with; an input that takes
longer than ten seconds counts as a hang.
"""

import argparse
import json
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fs_plugins.wire import WireError, decode, encode, spec_of
from fs_plugins.wire.codec import check_tensors

TENSORS = {
    "model.layer.0.lora_A.weight": torch.linspace(-1, 1, 24).view(2, 12),
    "model.layer.1.lora_A.weight": torch.ones(2, 12).bfloat16(),
    "head": torch.zeros(3),
}
SPEC = spec_of(TENSORS)
PAYLOAD = encode(TENSORS)
NUMBERS = (0, 1, -1, 255, 2**31, 2**32, 2**53, 2**63, 2**64 - 1, 10**30)
TYPES = ("F32", "F64", "F8_E4M3", "F4", "I64", "BOOL", "U8", "C64", "", "X")


def spoil_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change some of the bytes, without regard to their format.

    Args:
        rng: the source of randomness.
        data: a good payload.

    """
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(spoilt) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(spoilt):
            spoilt[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(spoilt):
            spoilt[at] = rng.choice((0, 1, 0x7F, 0x80, 0xC1, 0xDD, 0xFF))
        elif kind == 2:
            del spoilt[at:]
        elif kind == 3:
            spoilt[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif kind == 4:
            end = min(len(spoilt), at + rng.randrange(1, 64))
            to = rng.randrange(len(spoilt) + 1)
            spoilt[to:to] = spoilt[at:end]
        else:
            spoilt[:8] = (
                rng.choice(NUMBERS[:3] + NUMBERS[4:9]).to_bytes(
                    9, "little", signed=True
                )[:8]
                if rng.random() < 0.5
                else rng.randbytes(8)
            )
        if not spoilt:
            break
    return bytes(spoilt)


def spoil_header(rng: random.Random, data: bytes) -> bytes:
    """Change what the header of a safetensors payload says.

    Args:
        rng: the source of randomness.
        data: a good payload.

    """
    size = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + size]), data[8 + size :]
    name = rng.choice(sorted(header))
    entry: Any = header[name]
    kind = rng.randrange(9)
    if kind == 0:
        entry["shape"] = [rng.choice(NUMBERS) for _ in range(rng.randrange(5))]
    elif kind == 1:
        entry["dtype"] = rng.choice(TYPES)
    elif kind == 2:
        entry["data_offsets"] = [rng.choice(NUMBERS), rng.choice(NUMBERS)]
    elif kind == 3:
        header[rng.choice(("", "head ", "x" * 300, "\ud800"))] = header.pop(
            name
        )
    elif kind == 4:
        del header[name]
    elif kind == 5:
        header[name] = rng.choice((None, 1, [], "x", {}, [[[]]] * 9))
    elif kind == 6:
        del entry[rng.choice(sorted(entry))]
    elif kind == 7:
        header["__metadata__"] = rng.choice(({}, {"a": 1}, [], "x", None))
    else:
        entry["shape"] = entry["shape"][::-1]
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = b"[" * rng.randrange(1, 3000) + text
    claim = rng.choice(NUMBERS[:2]) if rng.random() < 0.1 else len(text)
    if rng.random() < 0.3:
        values = values[: rng.randrange(len(values) + 1)]
    return claim.to_bytes(8, "little") + text + values


def try_payload(data: bytes) -> str:
    """Decode a payload, which is refused or exactly what is expected."""
    try:
        tensors = decode(data, SPEC)
    except WireError:
        return "refused"
    check_tensors(tensors, SPEC)
    return "with the names, shapes and types expected"


KINDS: tuple[tuple[Callable[..., bytes], bytes, Callable[..., str]], ...] = (
    (spoil_bytes, PAYLOAD, try_payload),
    (spoil_header, PAYLOAD, try_payload),
)


def main() -> None:
    """Spoil, try and count, until an input is treated as it should not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 10**9
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    outcomes: Counter[str] = Counter()
    longest = 0.0
    for number in range(args.inputs):
        spoil, good, attempt = KINDS[number % len(KINDS)]
        data = spoil(rng, good)
        begin = time.perf_counter()
        signal.alarm(10)
        try:
            outcomes[attempt(data)] += 1
        except BaseException:
            print(f"input {number} of seed {args.seed}: {data!r}")
            raise
        signal.alarm(0)
        longest = max(longest, time.perf_counter() - begin)
    for outcome, count in outcomes.most_common():
        print(f"{count:8}  {outcome}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"longest {longest * 1000:.1f} ms, peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
