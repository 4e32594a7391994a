"""What a tool call may not do: the rules of the interlock. No shell parser: words, redirections, plain variables.

Reading is always allowed. Programs (``python -c``, ``make``, a script), ``git``, ``find`` and ``xargs`` are not judged; the
record's chain, its digests and ``verify_run.py`` find what they did. Nothing here imports ``re``, ``json`` or ``shlex``, which
would double what a call costs.
"""

import os

SCRIPTS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "scripts")
RECORD = ("loop_log.jsonl", "deft_state.json")
JOB = ("plan.json", "log.index", "log.lock", "run.lock", "reserve", "spot_check.json")
PLANS = "/deft-aoi/plans/"
READERS = set(
    [
        "cat",
        "head",
        "tail",
        "less",
        "more",
        "wc",
        "ls",
        "grep",
        "egrep",
        "rg",
        "zgrep",
        "diff",
        "stat",
        "file",
        "bat",
        "sha256sum",
    ]
)
SHELLS = set(["sh", "bash", "zsh", "dash", "ksh", "fish", "eval"])
BEFORE = set(
    [
        "env",
        "sudo",
        "doas",
        "nohup",
        "time",
        "timeout",
        "exec",
        "command",
        "nice",
        "setsid",
        "stdbuf",
        "xargs",
        "if",
        "then",
        "else",
        "do",
        "while",
        "until",
        "!",
        "{",
    ]
)
STARTERS = (
    SHELLS
    | BEFORE
    | set(["uv", "pixi", "poetry", "conda", "coverage", "source", ".", "-exec", "alias", "ln", "cp", "parallel", "watch"])
)
TOOLS = set(["json.tool", "ruff", "mypy", "pytest", "py_compile", "black", "pydoc", "ast", "tokenize"])
ENDS = set(["rm", "rmdir", "shred", "unlink", "trash", "mv", "rename", "del", "remove-item", "move-item"])
EDITS = ENDS | set(
    ["tee", "sponge", "truncate", "touch", "chmod", "chown", "dd", "set-content", "add-content", "out-file", "clear-content"]
)
MOVES = set(["mv", "rename", "move-item"])
COPIES = MOVES | set(["cp", "install", "rsync", "scp", "ln", "copy-item"])
SPLIT = str.maketrans("'\"(),=!{}[]`\n\t", " " * 14)
HIDE = {ord(c): 0xE000 + ord(c) for c in " \t\n;|&()<>"}
SHOW = {value: key for key, value in HIDE.items()}

HANDS_OFF = "Plan, approval, log and state files are written by the skill's scripts only: log_stage.py --stage note adds a note; "
HANDS_OFF += "status.py and next_stage.py show the state; verify_run.py checks it."
USERS_FOLDER = "A run's folder, or one above it, is moved or deleted by the user: tell the user what you would do and why."
NOTES_ONLY = "Only notes are written by hand (log_stage.py --stage note); a stage's event is written by the stage itself."
PERSONS = "Approving and repairing are for the user. Show the Pre-Flight Summary, stop, and wait: the user's own words, or the "
PERSONS += "approve.py line at its end that the user runs, are the approval."


def judge_command(text: str, cwd: str, digest: str = "", depth: int = 0) -> str:
    """Why a command line is denied, or the empty string. ``digest`` is the pending plan's, where one waits."""
    values, base, outer = {"PWD": cwd, "HOME": os.path.expanduser("~")}, cwd, []
    lines = segments(without_documents(text))
    known = len(lines)  # what follows are here-documents, which a shell or make may be fed
    lines += segments(text) if "<<" in text else []
    for number, (raw, targets) in enumerate(lines):
        words = [filled(w, values) for w in raw]
        reason = _persons(words, base, text, digest)
        if reason or number >= known:
            if reason:
                return reason
            continue
        if any(protected(filled(t, values), base) for t in targets):
            return HANDS_OFF
        if raw == ["("]:
            outer.append(base)
        elif raw == [")"] and outer:
            base = outer.pop()
        while words and (_assigns(words[0]) or os.path.basename(words[0]) in BEFORE | SHELLS):
            wrapper = not _assigns(words[0])
            values.update([] if wrapper else [words[0].split("=", 1)])
            words = words[1:]
            while wrapper and words and (words[0].startswith("-") or words[0][:1].isdigit()) and " " not in words[0]:
                words = words[1:]
        for word in words if depth < 3 else ():
            inner = word if word is words[0] else word[word.find("$(") :] if "$(" in word else ""
            reason = judge_command(inner.removeprefix("--split-string="), base, digest, depth + 1) if " " in inner else ""
            if reason:
                return reason
        if words[:1] in (["cd"], ["pushd"]):
            base = _full(words[1], base) if len(words) > 1 else values["HOME"]
        elif words:
            reason = _changes(os.path.basename(words[0]).lower(), words[1:], base)
            if reason:
                return reason
    return ""


def _changes(head: str, given: list, base: str) -> str:
    """Judges what one command would write, move or delete."""
    options = [w for w in given if w.startswith("-")]
    named = [path for w in given if not w.startswith("-") for path in found_by(w[3:] if head == "dd" else w, base)]
    in_place = any(o.startswith("--in-place") or (o[1:2] != "-" and "i" in o) for o in options)
    if (head in EDITS - MOVES or (head in ("sed", "perl") and in_place)) and any(protected(p, base) for p in named):
        return HANDS_OFF if head != "dd" or any(w.startswith("of=") and protected(w[3:], base) for w in given) else ""
    if head in COPIES and named:
        into = [w.partition("=")[2] for w in options if w.startswith("--target-directory=")]
        into = [given[given.index("-t") + 1]] if "-t" in given[:-1] else into or named[-1:]
        named = [n for n in named if n not in into]
        landing = [*into, *(os.path.join(into[0], os.path.basename(n.rstrip("/"))) for n in named)]
        if any(protected(p, base) for p in landing + (named if head in MOVES else [])):
            return HANDS_OFF
    return USERS_FOLDER if head in ENDS and any(holds_a_run(_full(p, base)) for p in named) else ""


def _persons(words: list, base: str, text: str, digest: str) -> str:
    """Judges whether a person's script, ``--yes`` or an event of a stage is called, whatever runs it."""
    flat = " ".join(words).translate(SPLIT).split()
    if not flat or {"--help", "-h"} & set(flat) or os.path.basename(flat[0]) in READERS:
        return ""
    names = [os.path.basename(piece).replace("-", "_") for piece in flat]
    plain = [n[:-3] if n.endswith(".py") else n for n in names]
    if digest and "approve" in plain and any(piece in (digest[-6:], digest[:12], digest) for piece in flat):
        return PERSONS
    for at, verb in enumerate(plain):
        if verb not in ("approve", "repair_run", "run_loop", "run_agent", "log_stage"):
            continue
        before = [os.path.basename(w) for w in flat[:at]]
        if names[at] == verb:  # a verb, not a file
            if not before or before[-1] not in ("deft", "deft_aoi"):
                continue
        elif (
            not is_ours(flat[at], base, text)
            or "-m" in before
            and TOOLS & set(before)
            or not all(_assigns(w) for w in before)
            and not any(w in STARTERS or w.startswith(("python", "pypy")) for w in before)
        ):
            continue
        if verb in ("approve", "repair_run"):
            return PERSONS
        after = (text if "$" in text or "xargs" in text else " ".join(words)).replace(";", " ").translate(SPLIT).split()
        if verb != "log_stage" and any(len(w) > 2 and "--yes".startswith(w) for w in after):
            return PERSONS
        stages = [after[i + 1] for i, w in enumerate(after[:-1]) if w.startswith("--stag") and "--stage".startswith(w)]
        if verb == "log_stage" and any(s != "note" for s in stages):
            return NOTES_ONLY
    return ""


def is_ours(path: str, base: str, text: str) -> bool:
    """True for a script of this skill: by its place on disk, by its literal path in the line, or by a name only we have."""
    if "$" in path or os.path.join(SCRIPTS, os.path.basename(path)) in text:
        return True
    full = os.path.realpath(_full(path, base))
    if os.path.isfile(full):
        return os.path.isdir(os.path.join(os.path.dirname(full), "deft_aoi"))
    return os.path.basename(path) != "approve.py" or path.endswith("scripts/approve.py")


def protected(path: str, base: str) -> bool:
    """True for a plan, an approval, or a log or state file of a run, as written or as the disk resolves it."""
    full = _full(path, base)
    for candidate in (full, os.path.realpath(full)):
        folder, name = os.path.split(candidate)
        if PLANS in f"{candidate}/" or (name.lower() in RECORD and is_run(folder)):
            return True
        if name in JOB and os.path.basename(folder) == "run" and is_run(os.path.dirname(folder)):
            return True
    return False


def is_run(folder: str) -> bool:
    """True for a run's folder; where it cannot be looked at, by its name."""
    if os.path.isfile(f"{folder}/loop_log.jsonl") or "$" in folder:
        return True
    return os.path.basename(folder).startswith("run_") and (
        not os.path.isdir(folder) or os.path.basename(os.path.dirname(folder)) == "results"
    )


def holds_a_run(folder: str, most: int = 300) -> bool:
    """True for a run's folder, its ``run/``, the plans, and any folder above one (the first ``most`` folders are looked at)."""
    folder = os.path.realpath(folder)
    if PLANS.startswith(f"/{os.path.basename(folder)}/") or is_run(folder) or protected(f"{folder}/plan.json", "/"):
        return True
    todo = [folder]
    for at in todo:
        try:
            inside = sorted(e.path for e in os.scandir(at) if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
        except OSError:
            continue
        if any(os.path.isfile(f"{p}/loop_log.jsonl") for p in inside):
            return True
        todo += [p for p in inside if os.path.basename(p) not in ("node_modules", "site-packages", "__pycache__")][
            : most - len(todo)
        ]
    return False


def segments(text: str) -> list:
    """A line as its simple commands: (words, targets of redirections); round brackets stand alone."""
    masked, quote, signs = [], "", iter(text.replace("\\\n", " "))
    for c in signs:
        if c == "\\" and quote != "'":
            masked.append(next(signs, "").translate(HIDE))
        elif c in "'\"" and quote in ("", c):
            quote = "" if quote else c
        else:
            masked.append(c.translate(HIDE) if quote else " ; " if c == "\n" else f" {c} " if c in ";|&()<>" else c)
    found, words, targets, last = [], [], [], ";"
    for token in [*"".join(masked).split(), ";"]:
        if token in ";|&()" and not (last == ">" and token in "|&"):
            found += [(words, targets)] * bool(words or targets) + [([token], [])] * (token in "()")
            words, targets = [], []
        elif last in "<>" and token not in "<>|&":
            targets += [token.translate(SHOW)] * (last == ">")
            found += [(["<", token.translate(SHOW)], [])] * (last == "<")
        elif token not in "<>|&":
            words.append(token.translate(SHOW))
        last = token if not (last == ">" and token in "|&") else last
    return found


def without_documents(text: str) -> str:
    """A line without its here-documents, where no shell is fed by them: they are contents, not commands."""
    start = text.find("<<")
    while start >= 0:
        end = text.find("\n", start)
        tag = text[start + 2 : max(end, 0)].lstrip("-").translate(SPLIT).partition(">")[0].partition("|")[0].split()[:1]
        close = text.find(f"\n{tag[0]}", end) if tag else -1
        if close >= 0 and not SHELLS & set(text[text.rfind("\n", 0, start) + 1 : start].split()):
            text = text[:end] + text[close + 1 + len(tag[0]) :]
        start = text.find("<<", start + 2)
    return text


def filled(word: str, values: dict) -> str:
    """A word with the variables that the line itself sets (and PWD, HOME), up to 4,096 characters."""
    for name in sorted(values, key=len, reverse=True) if "$" in word else ():
        word = word.replace("${" + name + "}", values[name]).replace("$" + name, values[name])[:4096]
    return word


def found_by(word: str, base: str) -> list:
    """The paths that a word of a shell names: braces, and patterns as far as the disk has them."""
    start, end = word.find("{"), word.find("}")
    if 0 <= start < end and "," in word[start:end] and word.count("{") < 5:
        return [
            p for piece in word[start + 1 : end].split(",")[:32] for p in found_by(word[:start] + piece + word[end + 1 :], base)
        ]
    if not any(c in word for c in "*?["):
        return [word]
    paths = [""]
    for part in _full(word, base).split("/")[1:]:
        if any(c in part for c in "*?["):
            try:
                paths = [f"{p}/{n}" for p in paths for n in os.listdir(p or "/") if n[0] != "." and fits(n, part)][:256]
            except OSError:
                return []
        else:
            paths = [f"{p}/{part}" for p in paths]
    return paths


def fits(name: str, pattern: str) -> bool:
    """True where a shell pattern could match a name (``[…]`` stands for any one character)."""
    if not pattern or pattern.count("*") > 4:
        return not name or bool(pattern)
    if pattern[0] == "*":
        return any(fits(name[i:], pattern[1:]) for i in range(len(name) + 1))
    if pattern[0] == "[" and "]" in pattern[2:]:
        return bool(name) and fits(name[1:], pattern[pattern.index("]", 2) + 1 :])
    return bool(name) and pattern[0] in ("?", name[0]) and fits(name[1:], pattern[1:])


def _assigns(word: str) -> bool:
    return "=" in word and word.partition("=")[0].isidentifier()


def _full(path: str, base: str) -> str:
    return os.path.normpath(os.path.join(base or "/", os.path.expanduser(path)))
