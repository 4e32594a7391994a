"""What other programs write is read at one place, whatever its bytes are."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import deft_aoi
from deft_aoi.contract.programs import as_text, run_program

PACKAGE = Path(deft_aoi.__file__).parent


def test_bytes_that_are_no_utf8_are_replaced():
    done = run_program(
        [sys.executable, "-c", r"import sys; sys.stdout.buffer.write(b'a\xff\n'); sys.stderr.buffer.write(b'\xe2\x96')"]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\ufffd\n", "\ufffd")
    assert as_text(b"\xff") == "\ufffd"


def test_no_other_place_decodes_a_programs_output():
    strict = re.compile(r"\btext=True|universal_newlines|std(out|err)\.read\(\)\.decode\(\)|std(out|err)\.decode\(\)")
    found = [str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if strict.search(p.read_text(encoding="utf-8"))]
    assert found == []
