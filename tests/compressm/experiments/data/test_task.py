"""Tasks: what their metrics are, and how they are written."""

import numpy as np
import pytest
import torch

from compressm.experiments.data import CLASSIFICATION, FORECASTING, METRICS


def test_metrics_are_means_over_sequences():
    rng = np.random.default_rng(0)
    output, future = rng.normal(size=(2, 6, 4))
    found = [
        float(m.each(*map(torch.tensor, (output, future))).mean()) for m in FORECASTING.metrics
    ]
    np.testing.assert_allclose(
        found, [((output - future) ** 2).mean(), abs(output - future).mean()]
    )
    (accuracy,) = CLASSIFICATION.metrics
    hits = accuracy.each(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1]))
    assert hits.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "title", "shown", "difference", "higher"),
    [("accuracy", "Accuracy", "91.3%", "-1.25", True), ("MSE", "MSE", "0.913", "-0.0125", False)],
)
def test_metrics_as_text(name, title, shown, difference, higher):
    metric = METRICS[name]
    assert (metric.title, metric.shown(0.9131, 1)) == (title, shown)
    assert (metric.difference(-0.0125), metric.higher_is_better) == (difference, higher)
