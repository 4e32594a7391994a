"""Training: TAO's steps, file names and status lines around the small siamese.

Every random number of a batch comes from (seed, epoch, batch number), so the same seed gives the same weights byte for
byte on a CPU with one thread, and a resumed training ends where the uninterrupted one does.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from deft_aoi.engines.embedded import checkpoint
from deft_aoi.engines.embedded.augment import augment
from deft_aoi.engines.embedded.config import check_loss
from deft_aoi.engines.embedded.data import DataError, PairLayout, PairSet, read_table, sampling_weights
from deft_aoi.engines.embedded.model import ModelConfig, PairLoss, SiameseNet, averaged_features, normalise, scores
from deft_aoi.engines.embedded.status import STARTED, StatusLog

GOOD_PARTS = 64  # PASS rows that a checkpoint's statistics of good parts rest on: about 0.3 s each time at 64 px


class Interrupted(RuntimeError):
    """A signal asked to stop; raised between two batches."""


@dataclass
class Tally:
    """Loss, accuracy and false alarms over the rows seen, in percent as TAO 7.3.0 reports them."""

    margin: float
    loss: float = 0.0
    rows: int = 0
    values: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)

    def add(self, loss: Tensor, output: Tensor, labels: Tensor) -> None:
        """Take in one batch."""
        self.loss += float(loss.detach()) * len(labels)
        self.rows += len(labels)
        self.values.append(scores(output.detach()).cpu())
        self.labels.append(labels.cpu())

    def metrics(self, prefix: str, *, with_far: bool = False) -> dict[str, float]:
        """``<prefix>_loss, _acc, _fpr`` (false alarms over PASS rows) and, on request, ``_far`` at full recall."""
        values, defect = torch.cat(self.values), torch.cat(self.labels).bool()
        flagged = values > self.margin
        passes = max(1, int((~defect).sum()))
        out = {
            f"{prefix}_loss": self.loss / self.rows,
            f"{prefix}_acc": 100.0 * float((flagged == defect).float().mean()),
            f"{prefix}_fpr": 100.0 * int((flagged & ~defect).sum()) / passes,
        }
        if with_far:
            both = bool(defect.any()) and bool((~defect).any())
            alarms = int((values[~defect] >= values[defect].min()).sum()) if both else passes
            out[f"{prefix}_far"] = 100.0 * alarms / passes
        return out


def eval_margin(config: DictConfig, log: StatusLog | None = None) -> float:
    """``model.classify.eval_margin``; a probability cannot exceed a margin above 1, so 0.5 then, as TAO does."""
    margin = float(config.model.classify.eval_margin)
    if config.model.classify.difference_module == "learnable" and margin > 1:
        if log is not None:
            log.write(f"eval_margin {margin:g} is above 1 for a probability; accuracy and false alarms use 0.5.")
        return 0.5
    return margin


def pick_device() -> torch.device:
    """CUDA where there is one, else the CPU with one thread (a training this small gains little, one thread repeats)."""
    torch.set_num_threads(1)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_split(config: DictConfig, split: str) -> PairSet:
    """The rows of ``dataset.classify.<split>``, every image checked.

    Raises:
        DataError: no CSV given, or a broken one.
        FileNotFoundError: the CSV or an image is missing.
    """
    source = config.dataset.classify[split]
    if not source.csv_path:
        raise DataError(f"dataset.classify.{split}.csv_path is not set")
    layout = PairLayout.from_config(config.dataset.classify, source.images_dir)
    return PairSet(read_table(Path(source.csv_path)), layout)


def _batch_generator(seed: int, epoch: int, batch: int) -> torch.Generator:
    """A generator of its own for each batch; the CPU's, whatever the device, so that devices draw the same rows."""
    mixed = (seed * 1_000_003 + epoch) * 1_000_003 + batch
    return torch.Generator().manual_seed(mixed % (1 << 63))


def _make_optimizer(config: DictConfig, model: SiameseNet) -> tuple[torch.optim.Optimizer, Any]:
    """The optimizer and the learning-rate factor by epoch (0-based)."""
    optim, epochs = config.train.optim, config.train.num_epochs
    parameters = [p for p in model.parameters() if p.requires_grad]
    if optim.optim == "sgd":
        made: torch.optim.Optimizer = torch.optim.SGD(
            parameters, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay
        )
    else:
        kind = torch.optim.AdamW if optim.optim == "adamw" else torch.optim.Adam
        made = kind(parameters, lr=optim.lr, weight_decay=optim.weight_decay)
    if optim.policy == "linear":
        return made, lambda epoch: 1.0 - epoch / (epochs + 1)
    return made, lambda epoch: 0.1 ** (epoch // max(1, epochs // 3))


class Trainer:
    """One training run in one results folder."""

    def __init__(self, config: DictConfig, log: StatusLog, *, stop: Any) -> None:
        """Read and check everything that training needs, before the first step.

        Args:
            config: the merged spec; ``results_dir`` is the task's own folder.
            log: the status file.
            stop: called between batches; true asks to end the run.

        Raises:
            SpecError, DataError, CheckpointError, FileNotFoundError: in one line each.
        """
        self.config, self.log, self._stop = config, log, stop
        self.folder = Path(config.results_dir)
        check_loss(config)
        self.device = pick_device()
        data = config.dataset.classify
        self.train_rows, self.val_rows = load_split(config, "train_dataset"), load_split(config, "validation_dataset")
        self.batch_size = int(data.batch_size)
        if len(self.train_rows) < self.batch_size:
            raise DataError(
                f"Dataset size ({len(self.train_rows)}) is smaller than the total batch size "
                f"({self.batch_size}): {self.train_rows.table.path}"
            )
        self.weights = sampling_weights(self.train_rows.labels, float(data.fpratio_sampling))
        self.steps_per_epoch = len(self.train_rows) // self.batch_size
        # A negative seed means "no seed" in TAO; the run still needs one to be resumable, so it draws one.
        self.seed = int(config.train.seed) if config.train.seed >= 0 else int(torch.seed() % (1 << 31))
        torch.manual_seed(self.seed)
        torch.backends.cudnn.benchmark = bool(config.train.cudnn.benchmark)
        # Not use_deterministic_algorithms: it imports the compiler of PyTorch, three seconds that every training would pay.
        torch.set_deterministic_debug_mode("warn" if config.train.cudnn.deterministic else "default")
        self.model_config = ModelConfig.from_spec(config)
        self.model = SiameseNet(self.model_config).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it
        self.loss = PairLoss(config).to(self.device)
        self.epoch, self.step, self.skip_batches = 0, 0, 0
        self._load_start()
        if config.model.backbone.freeze_backbone:
            self.model.trunk.requires_grad_(False)

    def _load_start(self) -> None:
        """Resume (named file, else any ``*_latest.pth`` in the folder) or start from another run's weights."""
        train = self.config.train
        latest = sorted(self.folder.glob("*_latest.pth"))
        resume = (
            Path(train.resume_training_checkpoint_path)
            if train.resume_training_checkpoint_path
            else (latest[0] if latest else None)
        )
        self._resumed: dict[str, Any] | None = None
        start = resume or (Path(train.pretrained_model_path) if train.pretrained_model_path else None)
        if start is None:
            return
        loaded, content = checkpoint.build_model(start, self.device, expected=self.model_config)
        self.model.load_state_dict(loaded.state_dict())
        if resume is None:
            self.log.write(f"Loading pretrained weights: {start}")
            return
        self.log.write(f"Resuming training from checkpoint: {resume}")
        self._resumed = content
        self.seed = int(content["rng"]["seed"])
        self.step = int(content["global_step"])
        self.epoch = int(content["epoch"]) + int(content["epoch_finished"])
        self.skip_batches = 0 if content["epoch_finished"] else self.step - self.epoch * self.steps_per_epoch
        torch.set_rng_state(content["rng"]["torch"].cpu())

    def _note_good_parts(self) -> None:
        """Measure the pair feature on PASS training rows; mining compares pairs in units of their spread."""
        good = torch.nonzero(self.train_rows.labels == 0).flatten()
        rows: list[int] = good[torch.linspace(0, len(good) - 1, min(len(good), GOOD_PARTS)).long()].tolist()
        self.model.train(False)
        found = []
        for start in range(0, len(rows), self.batch_size):
            pairs, _ = self.train_rows.batch(rows[start : start + self.batch_size])
            found.append(averaged_features(self.model, pairs.to(self.device).float() / 255.0))
        self.model.note_good_parts(torch.cat(found))
        self._set_mode()

    def _save(self, optimizer: torch.optim.Optimizer, *, finished: bool) -> None:
        self._note_good_parts()
        checkpoint.save(
            self.folder,
            {
                "state_dict": self.model.state_dict(),
                "optimizer_states": [optimizer.state_dict()],
                "epoch": self.epoch,
                "global_step": self.step,
                "epoch_finished": finished,
                "rng": {"seed": self.seed, "torch": torch.get_rng_state()},
                "model_config": self.model_config.to_dict(),
                "tao_model": checkpoint.TAO_MODEL,
                "tao_model_type": f"embedded_{self.model_config.difference_module}",
            },
        )

    def _train_batch(self, batch: int, optimizer: torch.optim.Optimizer, tally: Tally) -> None:
        """One optimizer step on rows drawn and augmented by this batch's own generator."""
        generator = _batch_generator(self.seed, self.epoch, batch)
        rows = torch.multinomial(self.weights, self.batch_size, replacement=True, generator=generator).tolist()
        pairs, labels = self.train_rows.batch(rows)
        pairs = pairs.float() / 255.0
        colors = self.config.dataset.classify.augmentation_config
        if colors.augment:
            pairs = augment(pairs, colors, generator)
        output = self.model(*normalise(pairs.to(self.device), self.model_config))
        loss = self.loss(output, labels.to(self.device))
        if not torch.isfinite(loss):
            raise ValueError(f"training loss is {float(loss)} at epoch {self.epoch}, step {self.step}: lower train.optim.lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        tally.add(loss, output, labels)

    @torch.inference_mode()
    def _validate(self, margin: float) -> dict[str, float]:
        """Loss and rates on the validation rows, plain view, running statistics."""
        self.model.train(False)
        tally = Tally(margin)
        for pairs, labels in self.val_rows.ordered(self.batch_size):
            output = self.model(*normalise(pairs.to(self.device).float() / 255.0, self.model_config))
            tally.add(self.loss(output, labels.to(self.device)), output, labels)
        return tally.metrics("val", with_far=True)

    def _set_mode(self) -> None:
        self.model.train()
        if self.config.model.backbone.freeze_backbone:
            self.model.trunk.train(False)  # frozen means its batch statistics too

    def run(self) -> None:
        """Train to ``train.num_epochs``; a finished training that is started again trains nothing, as in TAO.

        Raises:
            Interrupted: ``stop`` said so; checkpoints written so far stay.
            ValueError: the loss is not finite.
        """
        train, log = self.config.train, self.log
        margin = eval_margin(self.config, log)
        optimizer, factor = _make_optimizer(self.config, self.model)
        if self._resumed is not None:
            optimizer.load_state_dict(self._resumed["optimizer_states"][0])
        per_epoch = train.checkpoint_interval_unit == "epoch"
        if self.model_config.difference_module == "euclidean":
            log.write(
                "Contrastive loss per sample: mean((1-y) d^2 + y max(0, m-d)^2); TAO's broadcast over the batch "
                "is not reproduced."
            )
        log.write("Tensorboard logging disabled.")
        log.write(f"\nSampling Defective components at {self.config.dataset.classify.fpratio_sampling:05.2f}:1 rate")
        log.write(f"Number of steps for training: {self.steps_per_epoch}")
        log.write(f"Number of steps for validation: {-(-len(self.val_rows) // self.batch_size)}")
        log.write("Starting Training Loop.", STARTED)
        while self.epoch < train.num_epochs:
            begun = time.monotonic()
            for group in optimizer.param_groups:
                group["lr"] = train.optim.lr * factor(self.epoch)
            self._set_mode()
            tally = Tally(margin)
            first, self.skip_batches = self.skip_batches, 0
            for batch in range(first, self.steps_per_epoch):
                if self._stop():
                    raise Interrupted(f"stopped by a signal at epoch {self.epoch}, step {self.step}")
                self._train_batch(batch, optimizer, tally)
                self.step += 1
                if not per_epoch and self.step % train.checkpoint_interval == 0:
                    self._save(optimizer, finished=batch == self.steps_per_epoch - 1)
            if (self.epoch + 1) % train.validation_interval == 0:
                log.metrics("Eval metrics generated.", self._validate(margin))
            if per_epoch and (self.epoch + 1) % train.checkpoint_interval == 0:
                self._save(optimizer, finished=True)
            self._report_epoch(time.monotonic() - begun, max(1, self.steps_per_epoch - first))
            if tally.rows:
                log.metrics("Train metrics generated.", tally.metrics("train"))
            self.epoch += 1
        log.write("Training loop complete.")

    def _report_epoch(self, seconds: float, steps: int) -> None:
        """TAO's progress line."""
        epochs = self.config.train.num_epochs
        self.log.write(
            "Training loop in progress",
            epoch=self.epoch,
            step=self.step,
            max_epoch=epochs - 1,
            max_step=epochs * self.steps_per_epoch,
            time_per_epoch=str(datetime.timedelta(seconds=seconds)),
            time_per_step=str(datetime.timedelta(seconds=seconds / steps)),
            eta=str(datetime.timedelta(seconds=seconds * (epochs - 1 - self.epoch))),
        )
