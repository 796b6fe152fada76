"""What aggregators can be told, and their defaults."""

# fedsa.aggregator_args: what some of them can be told
AGGREGATOR_ARGS = {
    "lr": 1.0,
    "momentum": 0.9,
    "beta1": 0.9,
    "beta2": 0.99,
    "tau": 1e-3,
    "trim": 0.1,
}
