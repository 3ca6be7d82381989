"""Labelled texts as classifiers learn from them: read, split by groups, and kept apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.data.labelled import LabelledText, check_no_leak, read_labelled
from training.data.split import split_by_group
from training.evaluate.classification import truth
from training.outcome import Context
from training.recipes.classify import LabelledData
from training.registry import DataDigest


@dataclass(frozen=True)
class Data:
    """Labelled texts, and the digests of the files that they come from."""

    train: list[LabelledText]
    validation: list[LabelledText]
    """By which thresholds are chosen; empty where a text has one label, and where the run is private."""
    heldout: list[LabelledText]
    digests: list[DataDigest]
    labels: list[str]
    is_multi_label: bool


def read_data(
    settings: LabelledData,
    context: Context,
    labels_of: Callable[[Sequence[LabelledText], bool], list[str]],
    validates: bool,
) -> Data:
    """Read both files, or split one; raises DataError for a bad line, a leak, or a label that only held-out texts have.

    `labels_of` tells the labels from the texts that are learned from, and whether they may have several. Where they
    may and `validates`, a part of the texts is set aside to choose thresholds by.
    """
    train_file = heldout_file = read_labelled(context.path(settings.train))
    train = train_file.items
    validation: list[LabelledText] = []
    if train_file.is_multi_label and validates:
        # Salted: without it, the groups that the next split holds out would all be gone already.
        train, validation = split_by_group(train, settings.heldout_fraction, "thresholds ")
    if settings.heldout is None:
        train, heldout = split_by_group(train, settings.heldout_fraction)
    else:
        heldout_file = read_labelled(context.path(settings.heldout))
        heldout = heldout_file.items
        if not settings.allow_leaks:
            check_no_leak([*train, *validation], heldout)
    labels = labels_of([*train, *validation], train_file.is_multi_label)
    truth(heldout, labels)
    learned = train_file.numbers_of([*train, *validation])
    return Data(
        train=train,
        validation=validation,
        heldout=heldout,
        digests=[
            *train_file.digests(settings.train, "train", learned),
            *heldout_file.digests(settings.heldout or settings.train, "heldout", heldout_file.numbers_of(heldout)),
        ],
        labels=labels,
        is_multi_label=train_file.is_multi_label,
    )
