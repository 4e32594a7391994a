"""Labels and names of a user's own data as a workspace spells them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import MAX_NAME, PASS, check_name, folded_label, normalize_label, quoted
from deft_aoi.workspaces.good_labels import good_as_defect


def canonical_label(raw: str, pass_label: str, origin: str) -> str:
    """The label as the workspace spells it. Raises HardStop naming ``origin``."""
    if folded_label(raw) in {folded_label(word) for word in pass_label.split(",")}:
        return PASS
    try:
        return normalize_label(raw)
    except HardStop as error:
        error.message = f"{origin}: {error.message}"
        error.hint = error.hint or "--pass-label names the label that means a good part"
        raise


def refuse_good_as_defect(labels: Sequence[str], pass_label: str, defect_labels: Sequence[str]) -> None:
    """A class whose name means a good part is none of the defects, and some rows are good.

    Args:
        labels: canonical labels, one a sample.
        pass_label: what the user named as good, for the message.
        defect_labels: names that mean good and are defects all the same, as the user says.

    Raises:
        HardStop: names the label and its rows, and the option.
    """
    counts = Counter(label for label in labels if label != PASS)
    good = good_as_defect(labels, defect_labels)
    if good:
        words = ",".join(label for label, _ in good)
        raise HardStop(
            f"the label {quoted(good[0][0])} means a good part and would become a defect",
            expected=f"good parts called {quoted(pass_label)}",
            found=", ".join(f"{quoted(label)}: {count} rows" for label, count in good[:10]),
            hint=f"did you mean --pass-label {words}? {sum(c for _, c in good)} rows; else --defect-label {words}",
        )
    if counts and PASS not in labels:
        raise HardStop(
            "no row is a good part",
            expected=f"rows with the label {quoted(pass_label)}",
            found=", ".join(f"{quoted(label)}: {count} rows" for label, count in counts.most_common(10)),
            hint=f"--pass-label names the label of a good part, for example --pass-label {quoted(counts.most_common(1)[0][0])}",
        )


def safe_name(raw: str) -> str:
    """The name as a workspace can have it: characters that a launcher cannot take become ``_``."""
    name = unicodedata.normalize("NFC", raw)
    try:
        return check_name(name)
    except HardStop:
        kept = "".join(c if c.isalnum() or c in "@_.+-" or unicodedata.category(c)[0] == "M" else "_" for c in name)
        return check_name(re.sub("_+", "_", kept).strip("_.")[: MAX_NAME - 16] or "part")
