"""What aggregators can be told, and their defaults."""

# The defaults of fedsa.aggregator_args; each aggregator reads those it needs.
AGGREGATOR_ARGS = {
    "lr": 1.0,
    "momentum": 0.9,
    "beta1": 0.9,
    "beta2": 0.99,
    "tau": 1e-3,
    "trim": 0.1,
}
