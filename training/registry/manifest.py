"""The manifest: what one checkpoint is made of and where it came from."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

# What vLLM or transformers would be given: a whole model, or an adapter that needs its base beside it; or the guard; or
# what models are trained on.
Kind = Literal["base", "merged", "quantized", "pruned", "adapter", "classifier", "embedder", "tokenizer", "data"]

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


def is_name(name: str) -> bool:
    """Whether a checkpoint may be called so; such a name is also a safe folder name."""
    return re.fullmatch(NAME_PATTERN, name) is not None and "\n" not in name


def check_file_name(name: str) -> str:
    """Return `name` if it is a plain relative path below the folder, else raise ValueError."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"file name {name!r} is not a path inside the checkpoint")
    if "\\" in name or any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ValueError(f"file name {name!r} has a backslash or a control character")
    return name


FileName = Annotated[str, AfterValidator(check_file_name)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Record):
    """One file's content."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    """Bytes."""


class CheckpointRef(_Record):
    """Another model: how it was called, and the digest that says which one it really was."""

    ref: str
    digest: Digest


class RecipeRecord(_Record):
    """The recipe that made the checkpoint, with every setting as it was used."""

    name: str
    settings: dict[str, JsonValue] = {}


class DataDigest(_Record):
    """A data file of the training or its evaluation. Only its digest is kept, never its text."""

    name: str
    sha256: Sha256
    rows: Annotated[int, Field(ge=0)]
    role: Literal["train", "heldout", "calibration", "evaluation"]


class Histogram(_Record):
    """`counts[i]` samples lie in [edges[i], edges[i+1]); the last bin includes its upper edge."""

    edges: list[float]
    counts: list[Annotated[int, Field(ge=0)]]

    @model_validator(mode="after")
    def _check_shape(self) -> Histogram:
        if len(self.edges) != len(self.counts) + 1 or len(self.counts) < 1:
            raise ValueError(f"{len(self.counts)} counts cannot lie between {len(self.edges)} edges")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges must increase")
        return self


class FeatureSketch(_Record):
    """One feature of the traffic: how many values fell into each of the drift worker's fixed bins, and their sum."""

    counts: dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}$")], Annotated[int, Field(ge=1)]]
    """Bin to count; bins without values are left out."""
    total: float


class DriftReference(_Record):
    """The traffic that a checkpoint is expected to see: the drift worker compares the last window with it."""

    prompt_tokens: Histogram
    completion_tokens: Histogram
    refusal_rate: Annotated[float, Field(ge=0, le=1)]
    guard_hit_rate: Annotated[float, Field(ge=0, le=1)]
    samples: Annotated[int, Field(ge=0)]
    sketches: dict[str, FeatureSketch] | None = None
    """What the sequential detectors compare with, and exact means; None: recorded before there were any."""

    @model_serializer(mode="wrap")
    def _leave_out_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A manifest of before keeps its bytes, which its signature covers.
        fields: dict[str, Any] = serialize(self)
        if self.sketches is None:
            del fields["sketches"]
        return fields


class ManifestDraft(_Record):
    """What the maker of a checkpoint knows. The registry adds name, version, files, digests and time."""

    kind: Kind
    base: CheckpointRef | None = None
    """The model that its maker started from; None when there was none. An adapter runs on this one only."""
    parents: list[CheckpointRef] = []
    """Every checkpoint that went into it: the base, or all the models of a merge; and the data sets it learned from."""
    recipe: RecipeRecord | None = None
    data: list[DataDigest] = []
    code_version: str = ""
    """Git commit of Signet's checkout, or its release."""
    evaluation: dict[str, float] = {}
    drift_reference: DriftReference | None = None
    license: str | None = None
    """SPDX expression of the weights' licence."""


class Manifest(ManifestDraft):
    """The signed statement about one checkpoint, as in `manifest.json`."""

    format: Literal[1] = 1
    name: Name
    version: Annotated[int, Field(ge=1)]
    created: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    files: dict[FileName, FileEntry]
    digest: Digest
    """Of the files alone: equal for equal content, whatever its name or version."""
    tokenizer_digest: Digest | None = None
    """Of what maps text to token ids: a mark can be read with any tokenizer of this digest."""
    control_tokens: list[str] = []
    """The tokenizer's special tokens, which user content must not be able to forge."""

    @model_validator(mode="after")
    def _check_digest(self) -> Manifest:
        if self.digest != digest_of_files(self.files):
            raise ValueError("digest does not belong to the files")
        return self

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    def as_ref(self) -> CheckpointRef:
        """How another manifest names this one as base or parent."""
        return CheckpointRef(ref=self.ref, digest=self.digest)

    def to_bytes(self) -> bytes:
        """The exact content of `manifest.json`, which is what the signature covers."""
        return canonical_json(self.model_dump(mode="json"))


def digest_of_files(files: dict[str, FileEntry]) -> str:
    """SHA-256 over the canonical JSON of {name: {sha256, size}}, as `sha256:HEX`."""
    listing = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in files.items()}
    return "sha256:" + hashlib.sha256(canonical_json(listing)).hexdigest()


def canonical_json(value: object) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
