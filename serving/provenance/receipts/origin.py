"""From a receipt's manifest digest to the model, the data it was trained on and the base it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from serving.provenance.receipts.check import Check
from serving.provenance.receipts.statement import Statement
from training.registry import Checkpoint, DataDigest, Registry, RegistryError, UnknownCheckpoint

OnProgress = Callable[[str, int, int], None]


def trace(statement: Statement, registry: Registry, must_know: bool, on_progress: OnProgress) -> Iterator[Check]:
    """The links from the receipt on, as this registry has them; each checkpoint is verified byte by byte.

    `must_know`: a checkpoint that is not in this registry is a failure, and not only left unchecked.
    """
    if not statement.manifest:
        yield Check("model", None, f"{statement.model}: its engine announced no manifest, so its weights are not known")
    for digest in dict.fromkeys([statement.manifest, *statement.earlier_manifests]):
        if digest:
            yield from _checkpoint("model", digest, statement.model, registry, must_know, on_progress)
    if statement.manifest and "" in statement.earlier_manifests:
        yield Check("model", None, "another engine began the answer and announced no manifest")


def _checkpoint(
    subject: str, digest: str, called: str, registry: Registry, must_know: bool, on_progress: OnProgress
) -> Iterator[Check]:
    try:
        checkpoint = registry.resolve(digest)
        registry.verify(checkpoint, on_progress)
    except UnknownCheckpoint:
        holds = False if must_know else None
        yield Check(subject, holds, f"{called} is {digest}, which is not in the registry {registry.root}")
        return
    except RegistryError as error:
        yield Check(subject, False, str(error))
        return
    yield Check(subject, True, f"{checkpoint.ref}, {digest}; manifest signed, every byte as signed")
    yield from _made_of(checkpoint, registry, on_progress)


def _made_of(checkpoint: Checkpoint, registry: Registry, on_progress: OnProgress) -> Iterator[Check]:
    """What the signed manifest says; that the data had this content is the word of whoever signed it."""
    manifest = checkpoint.manifest
    recipe = f" by recipe {manifest.recipe.name}" if manifest.recipe is not None else ""
    for data in manifest.data:
        yield Check("data", True, f"{_described(data)}: in the manifest of {checkpoint.ref}{recipe}")
    if not manifest.data:
        yield Check("data", None, f"the manifest of {checkpoint.ref} names no data")
    if manifest.base is None:
        yield Check("base", True, f"{checkpoint.ref} was made from no other checkpoint")
    else:
        yield from _checkpoint("base", manifest.base.digest, manifest.base.ref, registry, False, on_progress)


def _described(data: DataDigest) -> str:
    return f"{data.name} ({data.role}, {data.rows} rows, sha256:{data.sha256})"
