"""Pretraining: a language model of `training.model` learns to predict the next token of texts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from pydantic import JsonValue
from torch import nn
from torch.nn.functional import cross_entropy

from training.data.corpus import Characters, Corpus, ExistingTokenizer, Vocabulary, make_corpus, require_blocks
from training.evaluate.source import Source
from training.methods.gradient_run import GradientRun, processes
from training.methods.plain_text import read_text
from training.methods.run_folder import RunFolder
from training.methods.throughput import Throughput, measured_peak
from training.methods.trainer import Trainer, Training, compute_dtype, sum_over
from training.model.cache import Cache, SlidingCache
from training.model.config import ModelConfig
from training.model.decoder import Decoder
from training.model.decoding import Sampler, generate
from training.model.saving import NotServable, require_servable, save_decoder
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.progress import track
from training.recipes.pretrain import PretrainRecipe
from training.registry import Checkpoint, CheckpointRef, DataDigest, digest_folder

# While it trains: enough for two digits of the loss, cheap beside the steps between.
EVALUATION_BLOCKS = 128
# Blocks that are measured at once.
MEASURED_AT_ONCE = 64
SAMPLE_PROMPT_TOKENS, SAMPLE_TOKENS = 8, 120
# Samples, and answers of the engine unless a request says otherwise: at 1, small models lose the thread.
TEMPERATURE = 0.8


def run(recipe: PretrainRecipe, context: Context) -> Outcome:
    """Train and register; whatever interrupts it, nothing is registered half."""
    with processes() as accelerator:
        return _Run(recipe, context, accelerator).run()


@dataclass(frozen=True)
class Text:
    """Encoded text, and the digests of the files that it comes from."""

    vocabulary: Vocabulary
    train: Corpus
    heldout: Corpus
    digests: list[DataDigest]
    parents: Sequence[Source]
    """Whose tokenizer it is encoded with, where that is another model's."""


@dataclass(frozen=True)
class Validation:
    """How well held-out text is predicted."""

    loss: float
    """Nats a token."""
    bits_per_byte: float
    """Of UTF-8: comparable between models whose tokenizers differ."""
    tokens: int

    def __str__(self) -> str:
        return f"validation loss {self.loss:.3f} nats a token, {self.bits_per_byte:.3f} bits a byte"


class BlockObjective:
    """The negative log-likelihood of each token of a block, given those before it in the block."""

    def __init__(self, corpus: Corpus, block: int, balance: float, device: torch.device) -> None:
        self._tokens_T = corpus.tokens_T
        self._block = block
        self._balance = balance
        self._device = device
        self.lengths = [block] * corpus.num_blocks(block)

    def weight(self, indices: Sequence[int]) -> int:
        """Tokens that are predicted."""
        return len(indices) * self._block

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """In nats; experts that get uneven loads add to it."""
        rows = [self._tokens_T[index * self._block : (index + 1) * self._block + 1] for index in indices]
        ids_BL = torch.stack(rows).to(self._device, torch.long)
        loss = summed_loss(model, ids_BL)
        # Under several processes the model is wrapped.
        routings = getattr(model, "module", model).routings()
        if routings and self._balance:
            uneven = torch.stack([routing.balance_loss() for routing in routings]).mean()
            # Times the tokens, since the loop divides the sum by their number.
            loss = loss + self._balance * uneven * self.weight(indices)
        return loss


def summed_loss(model: nn.Module, ids_BL: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of all tokens but the first of each row, in nats; taken in fp32."""
    logits_BLV = model(ids_BL[:, :-1])
    return cross_entropy(logits_BLV.flatten(0, 1).float(), ids_BL[:, 1:].flatten(), reduction="sum")


class _Run(GradientRun[PretrainRecipe]):
    """`run()` reads top to bottom as what happens."""

    example = "block"

    def __init__(self, recipe: PretrainRecipe, context: Context, accelerator: Accelerator) -> None:
        super().__init__(recipe, context, accelerator)
        self.device = accelerator.device
        self.block = recipe.data.block
        if recipe.output == "checkpoint":
            # Before any text is read. The vocabulary is not known yet, and does not matter here.
            _require_servable(recipe.model.config(vocab_size=2, block=self.block))

    def run(self) -> Outcome:
        watch = self.start()
        text = self._read_text()
        with self.folder(text.digests, *text.parents) as folder:
            return self._run(text, folder, watch)

    def _run(self, text: Text, folder: RunFolder, watch: Stopwatch) -> Outcome:
        torch.manual_seed(self.recipe.seed)
        # The largest id, not the number of tokens: a tokenizer may leave ids out.
        vocab_size = max(text.vocabulary.encoder.get_vocab(with_added_tokens=True).values()) + 1
        model = Decoder(self.recipe.model.config(vocab_size, self.block)).to(self.device)
        dtype = compute_dtype(self.recipe.precision)
        objective = BlockObjective(text.train, self.block, self.recipe.model.balance, self.device)
        heldout = BlockObjective(text.heldout, self.block, 0.0, self.device)
        trainer = self.trainer(folder, model, objective, heldout)
        evaluation = _PeriodicEvaluation(self, trainer, model, text, folder)
        trained = trainer.train(self.show, evaluation.after_step)
        throughput = self._throughput(model, trained, evaluation, dtype)
        if self.accelerator.is_main_process and throughput is not None:
            (folder.path / "cost.json").write_text(json.dumps(throughput.figures(), indent=2) + "\n")
        # Rounded to the type that is stored, so that what is measured is what will be served.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype).float()
        validation = self.measure(model, text.heldout, show=self.show)
        checkpoint = None
        if self.recipe.output == "checkpoint":
            checkpoint = self._register(model.to(dtype), text, validation, trained)
        return self._outcome(checkpoint, validation, trained, throughput, folder, watch)

    def _read_text(self) -> Text:
        text = read_text(self.recipe.data, self.context)
        text.require_apart()
        tokenizer = self._tokenizer()
        vocabulary = Characters(text.train) if tokenizer is None else ExistingTokenizer(tokenizer.path)
        with track("Encoding text", self.show) as progress:
            train_corpus = make_corpus(vocabulary, text.train, progress)
        heldout_corpus = make_corpus(vocabulary, text.heldout)
        require_blocks(train_corpus, self.block, text.train_path, "train on")
        require_blocks(heldout_corpus, self.block, text.heldout_path, "hold out")
        return Text(
            vocabulary,
            train_corpus,
            heldout_corpus,
            text.digests,
            [] if tokenizer is None else [tokenizer],
        )

    def _tokenizer(self) -> Source | None:
        if self.recipe.tokenizer == "characters":
            return None
        folder = self.context.on_disk(Path(self.recipe.tokenizer))
        if not (folder / "tokenizer.json").is_file():
            return self.context.find_model(self.recipe.tokenizer)
        # A tokenizer alone, which is no model's folder.
        return Source(folder, CheckpointRef(ref=str(folder), digest=digest_folder(folder)))

    def measure(self, model: Decoder, corpus: Corpus, most_blocks: int | None = None, show: bool = False) -> Validation:
        """Over all blocks or some that are spread evenly, each process its share; every token weighs the same."""
        count = corpus.num_blocks(self.block)
        every = max(1, count // most_blocks) if most_blocks else 1
        starts = [index * self.block for index in range(0, count, every)]
        share = starts[self.accelerator.process_index :: self.accelerator.num_processes]
        total = 0.0
        was_training = model.training
        model.eval()
        with torch.inference_mode(), track("Measuring on held-out text", show) as progress:
            for at in range(0, len(share), MEASURED_AT_ONCE):
                rows = [corpus.tokens_T[start : start + self.block + 1] for start in share[at : at + MEASURED_AT_ONCE]]
                total += summed_loss(model, torch.stack(rows).to(self.device, torch.long)).item()
                progress(at + len(rows), len(share))
        model.train(was_training)
        tokens = len(starts) * self.block
        loss = sum_over(self.accelerator, total) / tokens
        # Of the whole text, also where some blocks are measured: it hardly differs between them.
        bytes_per_token = corpus.num_bytes / corpus.num_targets
        return Validation(loss, loss / math.log(2) / bytes_per_token, tokens)

    def _throughput(
        self, model: Decoder, trained: Training, evaluation: _PeriodicEvaluation, dtype: torch.dtype
    ) -> Throughput | None:
        """None where a run that was interrupted behind its last step took none again."""
        if not evaluation.steps:
            return None
        tokens = evaluation.steps * self.recipe.batch_size * self.block
        flops = tokens * model.config.training_flops_per_token(self.block)
        peak = measured_peak(self.device, dtype) * self.accelerator.num_processes
        return Throughput(tokens, flops, trained.seconds - evaluation.seconds, peak)

    def _register(self, model: Decoder, text: Text, validation: Validation, trained: Training) -> Checkpoint | None:
        def write(folder: Path) -> None:
            end = text.vocabulary.separator
            special = {} if end is None else {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
            save_decoder(model, folder, special)
            text.vocabulary.save(folder)
            sampling = {"do_sample": True, "temperature": TEMPERATURE, **special}
            (folder / "generation_config.json").write_text(json.dumps(sampling, indent=2) + "\n")

        evaluation = {
            "validation_loss": validation.loss,
            "bits_per_byte": validation.bits_per_byte,
            "validation_tokens": validation.tokens,
            "training_tokens": trained.weight,
            "training_flops": trained.weight * model.config.training_flops_per_token(self.block),
            **trained.figures(),
        }
        return self.register(write, kind="base", parents=text.parents, data=text.digests, evaluation=evaluation)

    def _outcome(
        self,
        checkpoint: Checkpoint | None,
        validation: Validation,
        trained: Training,
        throughput: Throughput | None,
        folder: RunFolder,
        watch: Stopwatch,
    ) -> Outcome:
        cost = [str(throughput)] if throughput is not None else []
        return Outcome(
            checkpoint=checkpoint,
            summary=f"{validation}, {len(trained.losses)} steps",
            cost=watch.cost(trained.weight),
            notes=[
                *cost,
                *trained.notes(),
                f"Figures and samples of every step: {folder.path}",
                *(next_steps(checkpoint) if checkpoint else ["Nothing was registered, because of output: figures"]),
            ],
            report={
                "validation_loss": validation.loss,
                "bits_per_byte": validation.bits_per_byte,
                "validation_tokens": validation.tokens,
                **trained.figures(),
                "losses": list(trained.losses),
                "throughput": None if throughput is None else dict(throughput.figures()),
                "run_folder": str(folder.path),
            },
        )


class _PeriodicEvaluation:
    """Between steps: perplexity of the held-out text so far, and a sample of what the model writes."""

    def __init__(self, run: _Run, trainer: Trainer, model: Decoder, text: Text, folder: RunFolder) -> None:
        self._run = run
        self._trainer = trainer
        self._model = model
        self._text = text
        self._folder = folder
        self.steps = 0
        """That this process took."""
        self.seconds = 0.0
        """That looking took."""

    def after_step(self, done: int) -> None:
        self.steps += 1
        if done % self._run.recipe.evaluate_every:
            return
        started = time.monotonic()
        with self._trainer.whole_model():
            self._evaluate(done)
        self.seconds += time.monotonic() - started

    def _evaluate(self, done: int) -> None:
        validation = self._run.measure(self._model, self._text.heldout, EVALUATION_BLOCKS)
        router = self._router_figures()
        if self._run.accelerator.is_main_process:
            self._folder.note(
                step=done - 1,
                validation_loss=validation.loss,
                bits_per_byte=validation.bits_per_byte,
                sample=self._sample(),
                **router,
            )

    def _router_figures(self) -> dict[str, JsonValue]:
        """How even the experts' load was on the held-out text, block by block: 1 is even, 0 all on one."""
        routings = self._model.routings()
        return {"router_entropy": [routing.entropy for routing in routings]} if routings else {}

    def _sample(self) -> str:
        config = self._model.config
        prompt_1L = self._text.heldout.tokens_T[None, :SAMPLE_PROMPT_TOKENS].to(self._run.device, torch.long)
        num_tokens = min(SAMPLE_TOKENS, config.context - prompt_1L.shape[1])
        # A generator of its own: looking must not change what follows.
        sampler = Sampler(temperature=TEMPERATURE, generator=torch.Generator(self._run.device).manual_seed(0))
        self._model.eval()
        cache = Cache(config) if config.window is None else SlidingCache(config)
        ids_1L = generate(self._model, prompt_1L, num_tokens, sampler, self._text.vocabulary.separator, cache)
        self._model.train()
        text: str = self._text.vocabulary.encoder.decode(ids_1L[0].tolist())
        return text


def _require_servable(config: ModelConfig) -> None:
    try:
        require_servable(config)
    except NotServable as error:
        raise NotServable(f"{error}; output: figures trains and measures it without registering") from None
