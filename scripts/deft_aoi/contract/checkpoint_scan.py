"""Reading a checkpoint's opcodes without running one: what would unpickling it import and call?

A ``.pth`` is a zip archive with one pickle, and unpickling runs what the pickle names. ``weights_only=True`` is not enough
alone (CVE-2025-32434, CVE-2026-24747), and a trainer in a container may load without it. So every checkpoint that comes in
from outside passes here first: the archive must have exactly the entries that PyTorch writes, stored as PyTorch stores
them, and each global that its pickle names must be one that builds tensors or plain values. Nothing is unpickled, and
PyTorch is not imported.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from dataclasses import dataclass
from typing import BinaryIO

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.safe_open import StrPath, open_regular
from deft_aoi.contract.text import quoted

MAX_ENTRIES = 100_000
MAX_PICKLE_BYTES = 64 << 20
MAX_OPCODES = 20_000_000
_END_BYTES = 22  # an end-of-archive record without a comment
_ENTRY = re.compile(
    r"[^/\\\0]{1,200}/(?:data\.pkl|data/\d{1,9}|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)

ALLOWED: dict[str, frozenset[str]] = {
    "collections": frozenset({"OrderedDict", "defaultdict", "Counter", "deque"}),
    "builtins": frozenset(
        {
            "bool",
            "bytearray",
            "bytes",
            "complex",
            "dict",
            "float",
            "frozenset",
            "int",
            "list",
            "object",
            "range",
            "set",
            "slice",
            "str",
            "tuple",
        }
    ),
    "torch._utils": frozenset(
        {
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_device_tensor_from_numpy",
            "_rebuild_device_tensor_from_cpu_tensor",
        }
    ),
    "torch._tensor": frozenset({"_rebuild_from_type_v2"}),
    "torch.storage": frozenset({"UntypedStorage", "TypedStorage"}),
    "torch.nn.parameter": frozenset({"Parameter"}),
    "torch.torch_version": frozenset({"TorchVersion"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "torch": frozenset(
        {
            "device",
            "Size",
            "Tensor",
            "memory_format",
            "per_tensor_affine",
            "float16",
            "float32",
            "float64",
            "bfloat16",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "bool",
            "complex64",
            "complex128",
            "float8_e4m3fn",
            "float8_e5m2",
            "FloatStorage",
            "DoubleStorage",
            "HalfStorage",
            "BFloat16Storage",
            "LongStorage",
            "IntStorage",
            "ShortStorage",
            "CharStorage",
            "ByteStorage",
            "BoolStorage",
            "ComplexFloatStorage",
            "ComplexDoubleStorage",
        }
    ),
    "numpy": frozenset(
        {"ndarray", "dtype", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool_"}
    ),
    "numpy.core.multiarray": frozenset({"scalar", "_reconstruct"}),
    "numpy._core.multiarray": frozenset({"scalar", "_reconstruct"}),
    "_codecs": frozenset({"encode"}),
    "copyreg": frozenset({"_reconstructor"}),
    "typing": frozenset({"Any", "Dict", "List", "Optional", "Tuple", "Union"}),
    "pathlib": frozenset({"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path"}),
    "argparse": frozenset({"Namespace"}),
    "omegaconf.base": frozenset({"ContainerMetadata", "Metadata"}),
    "omegaconf.dictconfig": frozenset({"DictConfig"}),
    "omegaconf.listconfig": frozenset({"ListConfig"}),
    "omegaconf.nodes": frozenset({"AnyNode", "BooleanNode", "FloatNode", "IntegerNode", "PathNode", "StringNode"}),
    "lightning.fabric.utilities.data": frozenset({"AttributeDict"}),
    "lightning.pytorch.utilities.parsing": frozenset({"AttributeDict"}),
    "lightning_fabric.utilities.data": frozenset({"AttributeDict"}),
    "pytorch_lightning.utilities.parsing": frozenset({"AttributeDict"}),
}
"""Globals that build tensors or plain values and can do nothing else, whatever they are called with.

Left out on purpose: everything that evaluates, imports, opens or loads (``torch.storage._load_from_bytes`` unpickles again).
"""

_PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PYTHON2_NAMES = {"long": "int", "unicode": "str", "xrange": "range"}
"""Pickle protocol 2, PyTorch's default, writes modules and a few built-in types under their old names."""

_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_SILENT = frozenset({"FRAME", "PROTO"})
_NEVER = frozenset({"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"})


@dataclass(frozen=True)
class CheckpointFacts:
    """What a scan found.

    Attributes:
        entries: files in the archive.
        opcodes: pickle opcodes read.
        names: globals that the pickle names, sorted.
    """

    entries: int
    opcodes: int
    names: tuple[str, ...]


class CheckpointRefused(HardStop):
    """A checkpoint that must not be loaded."""


def scan_checkpoint(path: StrPath) -> CheckpointFacts:
    """Read a checkpoint's archive and pickle without unpickling.

    Args:
        path: a regular file (a symbolic link is resolved by the caller).

    Raises:
        CheckpointRefused: not a whole PyTorch archive, an entry that PyTorch does not write, or a pickle that names
            something else than tensors and plain values.
        FileNotFoundError: there is no such file.
    """
    try:
        fd = open_regular(path)
    except HardStop as error:
        raise CheckpointRefused(f"the checkpoint {quoted(path, 200)} is not a regular file", found=error.found) from error
    with os.fdopen(fd, "rb") as handle:
        try:
            return _scan(handle)
        except CheckpointRefused as error:
            error.message = f"the checkpoint {quoted(path, 200)} is refused: {error.message}"
            raise


def _scan(handle: BinaryIO) -> CheckpointFacts:
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    begins = handle.read(4)
    handle.seek(max(0, size - _END_BYTES))
    ends = handle.read(_END_BYTES)
    if begins != b"PK\x03\x04" or ends[:4] != b"PK\x05\x06" or ends[-2:] != b"\0\0":
        # Readers of zip files differ in what they make of bytes before and after: there must be none.
        raise CheckpointRefused(
            "not a whole PyTorch archive",
            expected="a zip archive as torch.save writes it, nothing before or after it",
            found="a bare pickle (loading one runs its code)" if begins[:1] in (b"\x80", b"(") else "other or missing bytes",
            hint="save the weights again with torch.save (its default format)",
        )
    try:
        with zipfile.ZipFile(handle) as archive:
            names = _check_entries(archive.infolist(), size)
            data = archive.read(names)
            entries = len(archive.infolist())
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, OSError, NotImplementedError) as error:
        raise CheckpointRefused("the archive is damaged", found=quoted(error, 120)) from error
    opcodes, found = _globals(data)
    refused = sorted(f"{module} {name}" for module, name in found if not _is_allowed(module, name))
    if refused:
        raise CheckpointRefused(
            "loading it would import or call what is no tensor",
            expected="tensors and plain values only",
            found=quoted(", ".join(refused), 200),
            hint="keep only the state_dict, or ask whoever made it what these are for",
        )
    return CheckpointFacts(entries, opcodes, tuple(sorted(f"{module}.{name}" for module, name in found)))


def _is_allowed(module: str, name: str) -> bool:
    if module == "__builtin__":
        name = _PYTHON2_NAMES.get(name, name)
    return name in ALLOWED.get(_PYTHON2.get(module, module), ())


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> str:
    """Name of the one pickle."""
    if len(entries) > MAX_ENTRIES or len({e.filename for e in entries}) != len(entries):
        raise CheckpointRefused("the archive has too many entries or two of one name", found=f"{len(entries)} entries")
    tops = {e.filename.split("/")[0] for e in entries}
    for entry in entries:
        if not _ENTRY.fullmatch(entry.filename) or len(tops) != 1:
            raise CheckpointRefused(
                "the archive has an entry that torch.save does not write",
                expected="data.pkl, data/N, version, byteorder in one folder",
                found=quoted(entry.filename),
            )
        stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size and not entry.flag_bits & 1
        if not stored or entry.header_offset + entry.file_size > size:
            raise CheckpointRefused("an entry is compressed, encrypted or cut", found=quoted(entry.filename))
    pickles = [e for e in entries if e.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointRefused("the archive has no data.pkl, or one that is too large", found=f"{len(pickles)} pickles")
    return pickles[0].filename


def _globals(data: bytes) -> tuple[int, set[tuple[str, str]]]:
    """Number of opcodes and every ``(module, name)`` that the pickle would look up.

    ``STACK_GLOBAL`` takes its two names from the stack. They are known only when the two opcodes before it push text (or
    fetch text from the memo); anything else could compute them, and is refused.
    """
    found: set[tuple[str, str]] = set()
    memo: dict[int, str | None] = {}
    pushed: list[str | None] = [None, None]  # what the last two opcodes pushed, where that is text
    count = 0
    ended = False
    try:
        for opcode, argument, _position in pickletools.genops(data):
            count += 1
            name = opcode.name
            if count > MAX_OPCODES or name in _NEVER:
                raise CheckpointRefused("its pickle is too long or uses an extension", found=name)
            if name in _SILENT:
                continue
            if name in _PUTS or name == "MEMOIZE":
                memo[len(memo) if name == "MEMOIZE" else int(str(argument))] = pushed[1]
                continue
            if name in ("GLOBAL", "INST"):
                module, _, attribute = str(argument).partition(" ")
                found.add((module, attribute))
            elif name == "STACK_GLOBAL":
                if pushed[0] is None or pushed[1] is None:
                    raise CheckpointRefused("its pickle hides the name of something that it calls", found="STACK_GLOBAL")
                found.add((pushed[0], pushed[1]))
            text = str(argument) if name in _STRINGS else memo.get(int(str(argument))) if name in _GETS else None
            pushed = [pushed[1], text]
            ended = name == "STOP"
    except CheckpointRefused:
        raise
    except Exception as error:  # pickletools raises ValueError, UnicodeDecodeError, struct.error … on damaged bytes
        raise CheckpointRefused("its pickle is damaged", found=quoted(error, 120)) from error
    if not ended:
        raise CheckpointRefused("its pickle is cut")
    return count, found
