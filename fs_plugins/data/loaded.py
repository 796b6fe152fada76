"""What is loaded as the data of a run."""

from dataclasses import dataclass

from fs_plugins.data.examples import Examples


@dataclass(frozen=True)
class Loaded:
    """The examples of a run.

    Attributes:
        train: the examples to train on, and from which a part that is
            missing is taken.
        val: the validation examples; None if there are none of their own.
        test: the test examples; None if there are none of their own.

    """

    train: Examples
    val: Examples | None = None
    test: Examples | None = None
