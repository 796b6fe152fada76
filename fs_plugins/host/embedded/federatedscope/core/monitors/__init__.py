"""Results and costs."""

from federatedscope.core.monitors.early_stopper import EarlyStopper
from federatedscope.core.monitors.metric_calculator import MetricCalculator
from federatedscope.core.monitors.monitor import Monitor

__all__ = ["EarlyStopper", "MetricCalculator", "Monitor"]
