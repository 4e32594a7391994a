"""Failures of a job that have one cause and one remedy: seen in TAO's code, in its real runs, or in users' reports.

Each has an id that the record, the report and the agent use. The texts are matched against the job's log and its
status lines; of an unknown failure the job's own error line is quoted. The order is from the
specific to the general, the first match wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownError:
    """One way in which a job fails.

    Attributes:
        id: stable name.
        pattern: regular expression over one log or status line (case-sensitive unless it says otherwise).
        cause: one line.
        fix: one line.
    """

    id: str
    pattern: str
    cause: str
    fix: str


KNOWN_ERRORS = (
    KnownError(
        "gpu-out-of-memory",
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
        "the GPU's memory does not hold the batch",
        "lower dataset.classify.batch_size (16 or less on 48 GB, 8 or less on 24 GB)",
    ),
    KnownError(
        "shared-memory",
        r"[Bb]us error|insufficient shared memory|unable to (?:open|allocate|write to) shared memory",
        "the data loader's workers ran out of shared memory",
        "raise the container's shared memory (8 GiB) or lower dataset.classify.workers",
    ),
    KnownError(
        "disk-full",
        r"No space left on device|Disk quota exceeded|\[enforce fail at inline_container",
        "the disk is full: TAO keeps every checkpoint (up to 1.85 GB each)",
        "free space or raise train.checkpoint_interval",
    ),
    KnownError(
        "rows-below-batch",
        r"Dataset size \(\d+\) is smaller than the total batch size",
        "a split has fewer rows than one batch; TAO asks for a whole batch of every split",
        "lower dataset.classify.batch_size to the rows of the smallest split",
    ),
    KnownError(
        "frozen-backbone",
        r"You shouldn't freeze a model without specifying pretrained_backbone_path",
        "freeze_backbone needs the backbone's weights",
        "set pretrained_backbone_path, or freeze_backbone: false",
    ),
    KnownError(
        "missing-backbone",
        r"(?i)(?:No such file|FileNotFoundError|does not exist|not found).{0,160}backbone"
        r"|backbone.{0,160}(?:No such file|does not exist|not found)|(?:No such file|FileNotFoundError).*c_radio",
        "the backbone's weights are not at model.backbone.pretrained_backbone_path",
        "stage them under augmentation/backbone/ with their real suffix (.safetensors, .pth or .ckpt), never a URL",
    ),
    KnownError(
        "loss-difference-mismatch",
        r"difference_module='\w+' requires|(?i:contrastive|euclidean).{0,80}(?i:only|must be|requires)",
        "train.classify.loss and model.classify.difference_module do not belong together",
        "ce with learnable, contrastive with euclidean",
    ),
    KnownError(
        "size-mismatch",
        r"size mismatch for |(?:Missing|Unexpected) key\(s\) in state_dict|KeyError: 'radio",
        "the checkpoint belongs to another architecture",
        "use a spec with the checkpoint's own model section (backbone, feature_strides, difference_module)",
    ),
    KnownError(
        "missing-checkpoint",
        r"(?:No such file or directory|FileNotFoundError|not found).*\.(?:pth|ckpt|tlt)\b",
        "the checkpoint that the spec names does not exist",
        "check inference.checkpoint; use absolute paths without ${results_dir}",
    ),
    KnownError(
        "missing-image",
        r"Image file wasn't found at|(?:No such file or directory|FileNotFoundError).*\.(?:jpe?g|png|bmp|tiff?)\b",
        "an image that a CSV row names does not exist",
        "run check_data.py; check image_ext and input_map",
    ),
    KnownError(
        "missing-csv",
        r"No inference csv file was found|(?:No such file or directory|FileNotFoundError).*\.csv\b",
        "a CSV that the spec names does not exist or is not mounted",
        "check dataset.classify.*_dataset.csv_path",
    ),
    KnownError(
        "no-pass-rows",
        r"invalid multinomial distribution",
        "no row of the training CSV is labelled exactly PASS",
        "write PASS in capitals, without spaces",
    ),
    KnownError(
        "no-defect-rows",
        r"ZeroDivisionError",
        "the training CSV has no defect row",
        "add defect rows to train/base/training_set.csv",
    ),
    KnownError(
        "missing-column",
        r"KeyError: '(?:input_path|golden_path|label|object_name)'",
        "a mandatory CSV column is missing (inference needs label and golden_path too)",
        "input_path, golden_path, label, object_name in every CSV",
    ),
    KnownError(
        "unknown-spec-key",
        r"ConfigKeyError|ConfigAttributeError|Key '[^']*' (?:not in|is not in struct)",
        "the spec has a key that this TAO version does not know",
        "remove it; train.checkpointer.* exists from 7.1 on",
    ),
    KnownError(
        "spec-type",
        r"ConfigValueError|ValidationError|ConfigTypeError|InterpolationKeyError",
        "a spec value has the wrong type",
        "compare it with TAO's default for that key",
    ),
    KnownError(
        "spec-missing",
        r"ERROR: The (?:subtask|indicated experiment spec)|Primary config .*not found",
        "the spec file was not found by the launcher",
        "pass -e with an absolute path that the job can read",
    ),
    KnownError(
        "checkpoint-interval",
        r"(?:Checkpoint|Validation) interval \d+ > Number of epochs",
        "checkpoint_interval or validation_interval is larger than num_epochs",
        "set both to at most num_epochs",
    ),
    KnownError(
        "missing-golden-path",
        r"(?:join\(\) argument|expected str, bytes or os\.PathLike object).*(?:float|NoneType)",
        "a CSV cell or image_ext is empty",
        "fill in golden_path; set dataset.classify.image_ext",
    ),
    KnownError(
        "grid-index",
        r"IndexError: list index out of range",
        "grid_map asks for more lights than input_map has",
        "make grid_map.x * grid_map.y equal the lights",
    ),
    KnownError(
        "unsupported-backbone",
        r"Bac[kb]+one name \[.*\] is not supported|NotImplementedError.*(?:backbone|radio|fan)",
        "this TAO version does not have that backbone",
        "choose a backbone from references/visual-changenet.md",
    ),
    KnownError(
        "deformable-attention-library",
        r"(?:Error|cannot open).*(?:MultiScaleDeformableAttention|libcudart\.so|GLIBCXX_3\.4\.\d+)",
        "TAO's compiled deformable-attention op cannot be loaded (C-RADIO learnable needs it)",
        "run in NVIDIA's image, or where libcudart.so.13 and GLIBCXX_3.4.32 exist",
    ),
    KnownError(
        "gpu-missing",
        r"No supported gpu backend found|MisconfigurationException.*(?:gpu|accelerator|CUDA)"
        r"|no NVIDIA driver|No CUDA GPUs are available|Found no NVIDIA driver|could not select device driver",
        "TAO found no GPU",
        "give the job a GPU, or use the embedded engine",
    ),
    KnownError(
        "gpu-fault",
        r"CUDA error: |device-side assert|Xid |NCCL error|ncclSystemError|uncorrectable ECC",
        "the GPU or its link failed",
        "look at nvidia-smi on that host; try another GPU",
    ),
    KnownError(
        "user-id",
        r"getpwuid\(\): uid not found|KeyError: 'getpwuid",
        "the container's user has no name",
        "the platform sets USER, LOGNAME and HOME; report this",
    ),
    KnownError(
        "permission",
        r"PermissionError|Permission denied|Read-only file system",
        "the job may not write where it wants to",
        "check the owner of the results folder",
    ),
    KnownError(
        "host-memory",
        r"DataLoader worker .* is killed by signal: Killed|MemoryError|oom-kill|Out of memory: Killed",
        "the host's memory ran out",
        "lower dataset.classify.workers or batch_size, or ask for more memory",
    ),
    KnownError(
        "module-missing",
        r"ModuleNotFoundError|ImportError: cannot import",
        "a Python module is missing in the engine's environment",
        "check the image or --tao-python environment",
    ),
    KnownError(
        "offline",
        r"(?i)couldn't connect to|name resolution|LocalEntryNotFoundError|OfflineModeIsEnabled",
        "the job wanted to download something, and jobs have no network",
        "stage the file beforehand (the assets stage) and name its local path",
    ),
    KnownError(
        "launcher-fail",
        r"Execution status: FAIL",
        "TAO's launcher reports a failure that has no known cause",
        "read the log's last lines",
    ),
)

# Found by looking at outputs and exit codes, not at a text.
ZERO_STEPS = KnownError(
    "zero-steps",
    "",
    "the training reports success but trained nothing: no new checkpoint",
    "train into an empty folder; fine-tune by train.pretrained_model_path, not from a *_latest.pth",
)
NO_SENTENCE = KnownError(
    "no-success-sentence",
    "",
    "the job ended without TAO's success sentence",
    "read the log's last lines; an interrupted TAO job exits 0",
)
STALE_OUTPUT = KnownError("stale-output", "", "the output is older than the launch", "read the log; run the stage again")
BAD_OUTPUT = KnownError("bad-output", "", "the output does not have the expected structure", "read the log; run the stage again")
FAILURE_LINE = KnownError("failure-line", "", "the job's own error line, as quoted", "read the log's last lines")
KILLED = KnownError(
    "killed",
    "",
    "the job was killed (signal 9): by the host's memory guard, a scheduler or a person",
    "look for an out-of-memory message of the host; lower batch_size or workers",
)
TIME_LIMIT = KnownError("time-limit", "", "the job ran past its time limit", "raise the limit or lower num_epochs")
UNKNOWN_FAILURE = KnownError("unknown", "", "the job failed for a reason that is not known here", "read the log's last lines")
CLASS_COLLAPSE = KnownError(
    "class-collapse",
    "",
    "all scores are (nearly) equal: the model does not look at the parts",
    "more epochs or a lower learning rate; check the class weights and fpratio_sampling",
)

BY_ID = {
    error.id: error
    for error in (
        *KNOWN_ERRORS,
        ZERO_STEPS,
        NO_SENTENCE,
        STALE_OUTPUT,
        BAD_OUTPUT,
        FAILURE_LINE,
        KILLED,
        TIME_LIMIT,
        UNKNOWN_FAILURE,
        CLASS_COLLAPSE,
    )
}
_COMPILED = tuple((re.compile(error.pattern), error) for error in KNOWN_ERRORS)
_MAX_LINE = 2000  # a config dump in one line would make the patterns crawl


def match(lines: Iterable[str]) -> KnownError | None:
    """The first known error, in the table's order, that any of ``lines`` shows; ``None`` where none does.

    Lines that dump a configuration are left out: they name every key of the spec.
    """
    kept = [line[-_MAX_LINE:] for line in lines if "Experiment configuration:" not in line]
    for pattern, error in _COMPILED:
        if any(pattern.search(line) for line in kept):
            return error
    return None
