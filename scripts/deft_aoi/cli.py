"""One frame around every script: errors become exit codes, results become text or JSON.

A script defines ``build_parser()`` and ``run(args)`` and hands both to :func:`run_main`. Nothing heavy is imported here.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import DeftError

if TYPE_CHECKING:
    import argparse


class Result:
    """What a script has to say.

    Args:
        text: lines for a person or an agent (bounded; untrusted values already passed through ``quoted``).
        data: the same as JSON, printed with ``--json``.
        exit_code: 0 unless the script says otherwise.
    """

    def __init__(self, text: str = "", data: Any = None, exit_code: int = 0) -> None:
        self.text = text
        self.data = data
        self.exit_code = exit_code


def run_main(
    build_parser: Callable[[], argparse.ArgumentParser],
    run: Callable[[argparse.Namespace], Result],
    argv: list[str] | None = None,
    *,
    requires: tuple[str, ...] = (),
) -> int:
    """Parse, run and report.

    Args:
        build_parser: returns the script's own parser; ``--json`` is added here.
        run: does the work with one call into the library.
        argv: arguments without the program name; ``None`` means ``sys.argv[1:]``.
        requires: top-level modules that the script needs; where one is missing the script re-executes itself with the
            skill's own environment (see :mod:`deft_aoi.bootstrap`).

    Returns:
        The exit code (docs/architecture.md, Errors): 0, the code of the :class:`DeftError`, or 1 for a bug.
    """
    _any_encoding()
    parser = build_parser()
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args(argv)
    try:
        if requires:
            from deft_aoi.bootstrap import ensure_interpreter

            ensure_interpreter(requires)
        result = run(args)
        out = json.dumps(result.data, sort_keys=True) if args.json else result.text
        if out:
            print(out)
        sys.stdout.flush()
        return result.exit_code
    except DeftError as error:
        return _refuse(error, args.json)
    except BrokenPipeError:
        # The reader (head, less) went away; what was asked for has been done or not begun.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        from deft_aoi.contract.user_folders import cannot_write

        blocked = cannot_write(error)
        return _refuse(blocked, args.json) if blocked is not None else _report_bug(error)
    except Exception as error:  # a bug: one line here, the traceback in a file
        return _report_bug(error)


def _any_encoding() -> None:
    """A label or a sign that the terminal cannot show is shown as an escape; it never ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _refuse(error: DeftError, as_json: bool) -> int:
    if as_json:
        print(_masked(json.dumps(error.as_dict(), sort_keys=True)))
    print(_masked(error.render()), file=sys.stderr)
    return error.exit_code


def _report_bug(error: Exception) -> int:
    print(f"bug: {type(error).__name__}: {_one_line(_masked(str(error)))} (traceback: {_keep_traceback()})", file=sys.stderr)
    return 1


def _one_line(text: str, limit: int = 200) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:limit]


def _masked(text: str) -> str:
    """Mask credentials: a library's message may quote what it was given."""
    from deft_aoi.platforms.redact import known_secrets, redact

    return redact(text.encode(errors="replace"), known_secrets(os.environ)).decode(errors="replace")


def _keep_traceback() -> str:
    import traceback

    from deft_aoi.contract.user_folders import user_folder

    try:
        folder = os.path.join(user_folder("state"), "crashes")
        name = os.path.join(folder, f"{os.path.basename(sys.argv[0]) or 'deft'}-{os.getpid()}.txt")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(name, "w", encoding="utf-8") as handle:
            handle.write(_masked(traceback.format_exc()))
    except (OSError, DeftError):
        print(_masked(traceback.format_exc()), file=sys.stderr)
        return "above"
    return name
