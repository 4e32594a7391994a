"""The skill's own scripts on a command line: which one is run, and whether it may be."""

import os

GATED = frozenset(
    (
        "init_deft_state",
        "run_stage",
        "run_loop",
        "prestage_pregen",
        "changenet_data_pair_prepare",
        "prepare_inference_spec",
    )
)
"""Scripts that change a run or start a job (a test compares this with the loop's own list). Each refuses by itself
(exit 5) without an approval; here it is refused one step earlier."""

READ_ONLY = {"changenet_data_pair_prepare": "--check"}
"""The option with which a gated script only reads, and so needs no approval."""

PERSON_ONLY = frozenset(("approve", "repair_run"))
LAUNCHERS = ("python", "pypy", "uv", "ipython", "coverage", "conda", "mamba", "micromamba", "poetry", "pdm", "hatch", "pixi")
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

NO_APPROVAL = (
    "The plan is not approved yet. Show the Pre-Flight Summary that preflight.py printed as plain text, "
    "then stop and wait for the user's own words. The user can also run the approve.py line at its end."
)
NOTES_ONLY = "Only notes are written by hand (log_stage.py --stage note); a stage's event is written by the stage itself."
PERSONS = (
    "Approving and repairing are for the user. Show the Pre-Flight Summary, stop, and wait: the user's own words, "
    "or the approve.py line that the user runs, are the approval."
)


def is_launcher(name: str) -> bool:
    """True for a command that starts scripts."""
    return name == "deft" or name.startswith(LAUNCHERS)


def script_of(words: "list[str]", bases: "list[str]") -> "str | None":
    """The skill's verb that a simple command runs.

    ``python3 …/run_loop.py``, ``./run_loop.py``, ``deft run-loop``, ``python -m deft_aoi run_loop``, ``python -m run_loop``.
    """
    name = words[0].rpartition("/")[2]
    if name == "deft":
        return _verb(words[1]) if len(words) > 1 else None
    if name.endswith(".py"):
        return _verb(words[0]) if is_ours(words[0], bases) else None
    if not name.startswith(LAUNCHERS):
        return None
    for index, word in enumerate(words[1:], 1):
        following = words[index + 1] if index + 1 < len(words) else ""
        if word == "-c":
            return None
        if word in ("-m", "-mdeft_aoi"):
            if "deft_aoi" in (word[2:], following):
                after = words[index + 1 + (word == "-m") :]
                return _verb(after[0]) if after else None
            return _verb(following) if is_ours(f"{following}.py", bases) else None
        if word.endswith(".py"):
            return _verb(word) if is_ours(word, bases) else None
        if word.rpartition("/")[2] == "deft":
            return _verb(following)
    return None


def _verb(word: str) -> "str | None":
    verb = word.rpartition("/")[2].removesuffix(".py").replace("-", "_")
    known = verb in PERSON_ONLY | GATED | {"run_agent"} or os.path.isfile(f"{HERE}/scripts/{verb}.py")
    return verb if known else None


def is_ours(path: str, bases: "list[str]") -> bool:
    """False only for a script that is there and lies in another project; what cannot be found counts as ours."""
    if "$" in path:
        return True
    full = [os.path.realpath(os.path.join(base, os.path.expanduser(path))) for base in bases]
    there = [f for f in full if os.path.isfile(f)]
    return not there or any(os.path.isdir(os.path.join(os.path.dirname(f), "deft_aoi")) for f in there)


def judge(verb: str, words: "list[str]", bases: "list[str]", open_ended: bool) -> str:
    """Why a call of one of the skill's scripts is denied, or the empty string.

    Args:
        verb: the script's name without ``.py``.
        words: the command, its variables filled in.
        bases: folders in which it may run.
        open_ended: more arguments may arrive (``xargs``, an unknown variable), and the line has a ``--yes`` somewhere.
    """
    if any(w in ("-h", "--help") for w in words):
        return ""
    if verb in PERSON_ONLY or open_ended:
        return PERSONS
    if any(w.startswith("--y") and "--yes".startswith(w.partition("=")[0]) for w in words):
        return PERSONS
    if verb == "log_stage" and option(words, "--stage") not in ("note", ""):
        return NOTES_ONLY
    if verb in GATED and READ_ONLY.get(verb) not in words and not has_approval(words, bases):
        return NO_APPROVAL
    return ""


def option(words: "list[str]", name: str) -> str:
    """The value of an option, however much it is shortened; the last one counts, as in argparse."""
    found = ""
    for index, word in enumerate(words):
        key, equals, value = word.partition("=")
        if len(key) > 2 and key.startswith("--") and name.startswith(key):
            found = value if equals else (words[index + 1] if index + 1 < len(words) else "")
    return found


def has_approval(words: "list[str]", bases: "list[str]") -> bool:
    """True where the named run is open already, or the plan that the command is for is approved."""
    from deft_aoi.contract import plans

    run, digest = option(words, "--results-dir"), option(words, "--plan-digest")
    for base in bases if run else []:
        log = os.path.join(base, os.path.expanduser(run), "loop_log.jsonl")
        if os.path.isfile(log) and os.path.getsize(log) > 0:
            return True  # the run's first event is its approval; the script checks that the digest still holds
    if "$" in run:
        return True  # an unexpanded variable: the script's own gate decides
    if digest:
        folder = plans.plans_dir()
        names = os.listdir(folder) if os.path.isdir(folder) else []
        fits = [n[:64] for n in names if n.startswith(digest) and n.endswith(".json") and plans.is_digest(n[:-5])]
        return len(fits) == 1 and plans.read_approval(fits[0]) is not None
    pending = plans.read_pending()
    return pending is not None and plans.read_approval(str(pending["digest"])) is not None


def persons_script_in(text: str) -> bool:
    """True where a program's text names a script that is a person's."""
    return any(f"{v}.py" in text or f"import {v}" in text or f"{v}.main" in text for v in PERSON_ONLY)


def imports_library(text: str) -> bool:
    """True where a program given on the command line reaches into the skill's library."""
    return "deft_aoi" in text
