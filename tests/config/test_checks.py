"""What a method or a precision needs, and is refused without."""

import pytest
import torch
from helpers import in_float64

from fs_plugins.errors import UserError


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"fedsa__base": {"dtype": "float64"}}, "float64 is for both"),
        ({"fedsa__adapter_dtype": "float64"}, "float64 is for both"),
        (
            {
                "fedsa__base": {"dtype": "float64", "quantize": "8bit"},
                "fedsa__adapter_dtype": "float64",
            },
            r"fedsa\.base\.quantize: '8bit' does not go with",
        ),
        (
            {
                "fedsa__base": {"dtype": "float64"},
                "fedsa__adapter_dtype": "float64",
                "train__is_enable_half": True,
            },
            r"train\.is_enable_half: True does not go with",
        ),
    ],
)
def test_float64_is_for_everything(lab, changes, words):
    """Autocast, which joins two precisions, would compute in bfloat16."""
    with pytest.raises(UserError, match=words):
        lab.run(**changes)


@pytest.mark.parametrize("aggregator", ["weighted_average", "fedex"])
def test_in_float64_nothing_is_rounded_to_less(lab, aggregator):
    """Neither what travels, nor what is kept, nor what is added."""
    runner = in_float64(lab).runner(
        federate__method="fedit", fedsa__aggregator=aggregator
    )
    runner.run()
    found = dict(runner.server.aggregator.shared)
    found |= runner.client[1].kept.values
    for pair in runner.server.parameters.delta.pairs.values():
        found |= dict(zip("lr", pair, strict=True))
    for name, value in found.items():
        assert value.dtype == torch.float64, name
        moved = not name.startswith("l") or aggregator == "fedex"
        assert moved and not torch.equal(value, value.float().double()), name
