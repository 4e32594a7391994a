"""Which paths are a run's record, an approval or a plan; and what a word of a command line may turn into."""

import os

NAMES = ("loop_log.jsonl", "deft_state.json", ".approval.json")
"""Protected wherever they lie: nobody else's files end like this."""

JOB_NAMES = ("plan.json", "log.index", "log.lock", "run.lock", "reserve", "spot_check.json")
"""Protected in the ``run/`` folder of a run."""

OWN_NAMES = ("log.index", "log.lock", "spot_check.json")
"""Those of them that hardly anybody else has, for a folder that cannot be known."""

PLANS = "deft-aoi/plans"
A_RUN = "run_20260101_120000"
MOST = 64
"""Bound on what one word may expand to, and on the folders that a line may change to."""


def could_be(pattern: str, name: str) -> bool:
    """True where a shell pattern could match a name (``[…]`` stands for any one character)."""
    while "[" in pattern and "]" in pattern[pattern.index("[") + 2 :]:
        start = pattern.index("[")
        pattern = pattern[:start] + "?" + pattern[pattern.index("]", start + 2) + 1 :]
    at = back = place = star = 0
    star = -1
    while at < len(name):
        if place < len(pattern) and pattern[place] in ("?", name[at]):
            at, place = at + 1, place + 1
        elif place < len(pattern) and pattern[place] == "*":
            star, back, place = place, at, place + 1
        elif star >= 0:
            back += 1
            at, place = back, star + 1
        else:
            return False
    return pattern[place:].strip("*") == ""


def is_pattern(text: str) -> bool:
    """True where the shell would expand file names."""
    return any(c in text for c in "*?[")


def is_job_folder(folder: str) -> bool:
    """True for the ``run/`` folder of a run: by its place where it is on disk, else by its name."""
    above, _, name = folder.rpartition("/")
    if os.path.isdir(folder):
        return name == "run" and os.path.isfile(f"{above}/loop_log.jsonl")
    if is_run_folder(above):
        return could_be(name, "run")
    return name == "run" and not os.path.isdir(above)


def is_run_folder(folder: str) -> bool:
    """True for a run's own folder."""
    if os.path.isfile(f"{folder}/loop_log.jsonl"):
        return True
    above, _, name = folder.rpartition("/")
    return (name.startswith("run_") or (is_pattern(name) and could_be(name, A_RUN))) and could_be(
        above.rpartition("/")[2] or "?", "results"
    )


def is_home(folder: str) -> bool:
    """True for a folder that holds record files: of a run, of its jobs, of plans."""
    return is_run_folder(folder) or is_job_folder(folder) or in_plans(f"{folder}/")


def holds_home(folder: str) -> bool:
    """True for such a folder or one above it, as far as the disk shows."""
    if is_home(folder) or folder.endswith("/deft-aoi"):
        return True
    results = folder if folder.endswith("/results") else f"{folder}/results"
    try:
        return any(os.path.isfile(f"{results}/{n}/loop_log.jsonl") for n in os.listdir(results) if n.startswith("run_"))
    except OSError:
        return False


def in_plans(path: str) -> bool:
    """True below the folder of plans and approvals."""
    if PLANS in path:
        return True
    parts = path.split("/")
    pairs = [(a, b) for a, b in zip(parts, parts[1:], strict=False) if is_pattern(a + b) and len(a.strip("*?")) > 2]
    return any(could_be(a, "deft-aoi") and could_be(b, "plans") for a, b in pairs)


def is_protected(path: str) -> bool:
    """True for a plan, approval, log or state file, as written or as the disk resolves it.

    Args:
        path: absolute and normalised; it may hold patterns.
    """
    if _reads_protected(path):
        return True
    real = os.path.realpath(path) if not is_pattern(path) else path
    return real != path and _reads_protected(real)


def _reads_protected(path: str) -> bool:
    if in_plans(path):
        return True
    folder, _, name = path.rpartition("/")
    lower = name.lower()
    if not is_pattern(lower):
        if lower.endswith(NAMES):
            return True
        if lower in OWN_NAMES and "$" in folder:
            return True
        return lower in JOB_NAMES and is_job_folder(folder)
    fits = any(could_be(lower, n) or could_be(lower, f"x{n}") for n in NAMES)
    if fits and (len(lower.partition(".json")[0].strip("*?[]")) >= 4 or is_run_folder(folder)):
        return True
    return is_job_folder(folder) and any(could_be(lower, n) for n in JOB_NAMES)


def mentions(text: str) -> bool:
    """True where a text, such as a program given to an interpreter, names a protected file anywhere."""
    lower = text.lower()
    return any(name in lower for name in (*NAMES, PLANS)) or any(f"run/{name}" in lower for name in JOB_NAMES)


def mentions_job_file(text: str) -> bool:
    """True where a text names a file that is protected in a run's ``run/`` folder, the folder left out."""
    return any(name in text for name in JOB_NAMES)


def variants(word: str, values: "dict[str, list[str]]") -> "list[str]":
    """What a word may turn into: braces, ``~`` and the variables whose values the line or the environment gives."""
    found = [word]
    if "{" in word:
        found = _braces(word)
    for _ in range(4):
        if not any("$" in w for w in found):
            break
        found = [new for w in found for new in _variable(w, values)][:MOST]
    return [os.path.expanduser(w) if w.startswith("~") else w for w in found]


def _variable(word: str, values: "dict[str, list[str]]") -> "list[str]":
    start = 0
    while (at := word.find("$", start)) >= 0:
        braced = word[at + 1 : at + 2] == "{"
        first = end = at + 1 + braced
        while end < len(word) and (word[end].isalnum() or word[end] == "_"):
            end += 1
        name, after = word[first:end], end
        if braced:
            after = word.find("}", end) + 1 or len(word)
        known = values.get(name, [])
        if name and not known and (inherited := os.environ.get(name)) is not None:
            known = [inherited]
        if braced and ":-" in word[end:after]:
            known = [*known, word[end:after].partition(":-")[2].rstrip("}")]
        if name and known:
            return [word[:at] + value + word[after:] for value in known if f"${name}" not in value]
        start = at + 1
    return [word]


def _braces(word: str) -> "list[str]":
    done, todo = [], [word]
    while todo and len(done) + len(todo) < MOST:
        word = todo.pop()
        close = word.find("}")
        while close >= 0:
            start = word.rfind("{", 0, close)
            if start >= 0 and "," in word[start:close] and word[start - 1 : start] != "$":
                todo += [word[:start] + piece + word[close + 1 :] for piece in word[start + 1 : close].split(",")]
                break
            close = word.find("}", close + 1)
        else:
            done.append(word)
    return done + todo
