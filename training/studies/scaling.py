"""A power law fitted to small runs, tested on a larger one.

Decoders of two blocks, 16 to 96 wide, learn characters of source code for 60 steps of 512 characters. The curve
loss = floor + factor · weights^-exponent (Kaplan et al. 2020; Hoffmann et al. 2022, with a fixed amount of text) is
fitted to the losses of the five smaller ones. It then predicts the loss of the widest, which is not part of the fit.
Weights are those that each token is multiplied with, including the output layer.

The widest model has about twice the weights of the next, so this does not prove that the curve holds over orders of
magnitude. All models use the same learning rate, which need not be the best for each. For comparison, the table shows
the error of the simplest prediction: the loss of the next smaller model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from training.studies.fit import decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

WIDTHS = (16, 24, 32, 48, 64, 96)
"""The last one is held back."""


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    losses: dict[float, float] = {}
    for width in WIDTHS:
        model = decoder(trial, read.vocab_size, width=width)
        fit_text(model, read.code, trial, steps=trial.pick(60, 3), learning_rate=4e-3)
        losses[model.config.num_active_weights()] = heldout_loss(model, read.code, tokens=trial.pick(8192, 1024))
    *small, largest = losses
    floor, factor, exponent = fit_power_law({weights: losses[weights] for weights in small})
    curve = {weights: floor + factor * weights**-exponent for weights in losses}
    error = abs(curve[largest] / losses[largest] - 1)
    # Beside it: that the loss stays what it was at the largest of the small ones.
    table = {
        "loss of the held-back run, nats": losses[largest],
        "predicted by the power law, nats": curve[largest],
        "relative error of predicting the next smaller one's loss": abs(losses[small[-1]] / losses[largest] - 1),
        "exponent": exponent,
        "floor, nats": floor,
    }
    return Sample(number=error, table=table, lines={"measured": losses, "power law of the first five": curve})


def fit_power_law(losses: Mapping[float, float]) -> tuple[float, float, float]:
    """Floor, factor and exponent of least squares in the logarithm of what is above the floor."""
    weights, values = np.log(list(losses)), np.array(list(losses.values()))
    best = (float("inf"), 0.0, 0.0, 0.0)
    for floor in np.linspace(0, 0.98 * values.min(), 200):
        slope, intercept = np.polyfit(weights, np.log(values - floor), 1)
        error = float(np.square(floor + np.exp(intercept + slope * weights) - values).sum())
        best = min(best, (error, float(floor), float(np.exp(intercept)), float(-slope)))
    return best[1:]


STUDY = Study(
    claim="A power law fitted to five small runs predicts the loss of a larger one within three percent.",
    number="relative error of the predicted loss",
    holds="below",
    bar=0.03,
    measure=measure,
    x=Axis("weights", is_log=True),
    y=Axis("loss, nats per character", is_log=True),
    seeds=3,
)
