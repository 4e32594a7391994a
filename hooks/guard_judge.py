"""Whether a shell command line runs what is the user's to run, or writes what only the skill's scripts write."""

import guard_paths as paths
import guard_scripts as scripts
from guard_line import SHELLS, Line, base_name
from guard_shell import Command

VIEWERS = frozenset(
    (
        "cat",
        "head",
        "tail",
        "more",
        "wc",
        "ls",
        "stat",
        "jq",
        "grep",
        "egrep",
        "fgrep",
        "rg",
        "diff",
        "cmp",
        "file",
        "sha256sum",
        "md5sum",
        "test",
        "[",
        "[[",
        "realpath",
        "readlink",
        "basename",
        "dirname",
        "du",
        "nl",
        "od",
        "cd",
        "pushd",
        "popd",
        "pwd",
        "tac",
        "cut",
        "bat",
        "echo",
        "printf",
        "true",
        "false",
        ":",
        "which",
        "type",
        "export",
        "for",
        "case",
        "declare",
        "local",
        "readonly",
        "typeset",
        "column",
        "df",
        "tree",
        "cksum",
        "b2sum",
        "comm",
        "paste",
        "fold",
    )
)
PROGRAMS = (
    "python",
    "pypy",
    "ipython",
    "perl",
    "ruby",
    "node",
    "deno",
    "bun",
    "lua",
    "php",
    "awk",
    "gawk",
    "mawk",
    "ed",
    "ex",
    "vi",
)
COPIERS = frozenset(("cp", "rsync", "scp", "install", "mv", "ln", "rclone"))
TREES = frozenset(
    (
        "rm",
        "rmdir",
        "unlink",
        "shred",
        "chmod",
        "chown",
        "chgrp",
        "chattr",
        "setfacl",
        "rename",
        "trash",
        "mount",
        "umount",
    )
)
UNPACKERS = frozenset(("tar", "bsdtar", "unzip", "cpio", "7z", "7za", "patch"))
WRITERS = COPIERS | TREES | frozenset(("tee", "dd", "truncate", "sed", "touch", "sponge", "patch")) | SHELLS
GIT_READS = frozenset(
    (
        "diff",
        "log",
        "show",
        "status",
        "blame",
        "grep",
        "add",
        "commit",
        "ls-files",
        "rev-parse",
        "check-ignore",
    )
)

HANDS_OFF = (
    "Plan, approval, log and state files are written by the skill's scripts only. To add a note use "
    "log_stage.py --stage note; to see the state use status.py or next_stage.py; to check it use verify_run.py."
)
USERS_FOLDER = (
    "A run's folder, or one above it, is moved, linked, unpacked over or deleted by the user, not by the agent: its "
    "record must stay whole. Tell the user what you would do and why."
)
NO_PROGRAMS = (
    "Programs given on the command line do not use the skill's library: its scripts own every change of a run. "
    "status.py, next_stage.py and verify_run.py tell what you want to know (--json for values)."
)


def judge_command(text: str, cwd: str) -> str:
    """Why a shell command line is denied; the empty string where the skill has nothing against it."""
    line = Line(text, cwd)
    if not line.whole and (paths.mentions(text) or scripts.persons_script_in(text)):
        return HANDS_OFF  # a quote that was never closed: what would run cannot be known
    for command in line.commands:
        reason = judge_one(command, line)
        if reason:
            return reason
    return ""


def judge_one(command: Command, line: Line) -> str:
    """Judges one simple command of a line."""
    for target in command.targets:
        if line.protected(target) or (line.names_record and line.unknown(target)):
            return HANDS_OFF
    if not command.words:
        return ""
    words = [v for w in command.words for v in paths.variants(w, line.values)]
    if not words or not words[0]:
        return ""
    name = base_name(words[0])
    indirect = "xargs" in command.via or "parallel" in command.via or any(w.startswith("$") for w in words[1:])
    verb = scripts.script_of(words, line.bases)
    if verb is not None:
        return scripts.judge(verb, words, line.bases, indirect and line.says_yes)
    if is_looking(name, words):
        return ""
    for index, word in enumerate(words[1:], 1):  # a command that we do not know may run what follows
        if scripts.is_launcher(base_name(word)) and (verb := scripts.script_of(words[index:], line.bases)) is not None:
            return scripts.judge(verb, words[index:], line.bases, indirect and line.says_yes)
    if name.startswith(PROGRAMS) or name in SHELLS:
        reason = judge_program(command, name, words, line)
        if reason:
            return reason
    if name in COPIERS:
        return judge_copy(name, words, line)
    if name in TREES and any(paths.holds_home(p) for w in words[1:] if not w.startswith("-") for p in line.places(w)):
        return USERS_FOLDER
    if name == "git" or name == "find" or name in UNPACKERS:
        reason = judge_tree_tool(name, words, line)
        if reason or name == "find":
            return reason
    if (
        name in WRITERS
        and line.names_record
        and (any(v in ("xargs", "parallel", "find") for v in command.via) or any(line.unknown(w) for w in words[1:]))
    ):
        return HANDS_OFF
    return HANDS_OFF if any(line.protected(part) for w in words[1:] for part in _parts(w)) else ""


def _parts(word: str) -> "list[str]":
    """A word, and what it sets: ``of=FILE``, ``--output=FILE``, ``-oFILE``."""
    after = word.partition("=")[2]
    return [word, *([after] if after else []), *([word[2:]] if word.startswith("-") and len(word) > 2 else [])]


def is_looking(name: str, words: "list[str]") -> bool:
    """True for a command that writes nothing but its output."""
    if name in VIEWERS:
        return True
    operands = [w for w in words[1:] if not w.startswith("-")]
    options = [w for w in words[1:] if w.startswith("-")]
    if name == "git":
        return git_verb(words) in GIT_READS
    if name == "sort":
        return not any(o.startswith("-o") or o.startswith("--o") for o in options)
    if name in ("uniq", "xxd"):
        return len(operands) < 2
    if name == "less":
        return not any(o.startswith(("-o", "-O", "--log", "--LOG")) for o in options)
    if name == "sed":
        in_place = any(o.startswith("--i") or (not o.startswith("--") and "i" in o[1:]) for o in options)
        return not in_place and not any(paths.mentions(w) for w in operands[:1])
    if name == "find":
        return not any(w.startswith(("-delete", "-exec", "-ok", "-fprint", "-fls")) for w in words[1:])
    if name == "tar":
        letters = "".join(w for i, w in enumerate(words[1:]) if i == 0 or (w.startswith("-") and not w.startswith("--")))
        return "x" not in letters and not any(w in ("--extract", "--get", "--remove-files") for w in words)
    return False


def git_verb(words: "list[str]") -> str:
    """The subcommand of a git call, its own options passed over."""
    rest = words[1:]
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in ("-C", "-c") else rest[1:]
    return rest[0] if rest else ""


def judge_program(command: Command, name: str, words: "list[str]", line: Line) -> str:
    """Judges an interpreter with a program that is given on the line."""
    text = "\n".join([*words[1:], *command.texts, *command.sources])
    if command.piped and not any(w.endswith((".py", ".sh")) for w in words[1:]):
        text += "\n" + "\n".join(line.expanded)
    if scripts.persons_script_in(text) and not _foreign(words, line):
        return scripts.PERSONS
    if name in SHELLS:
        return ""  # what a shell would run has been taken apart
    if scripts.imports_library(text) and not any(w.endswith(".py") for w in words[1:]) and "-m" not in words:
        return NO_PROGRAMS
    if paths.mentions(text) or (line.near_record and paths.mentions_job_file(text)):
        return HANDS_OFF
    return ""


def _foreign(words: "list[str]", line: Line) -> bool:
    named = [w for w in words[1:] if w.endswith(".py")]
    return bool(named) and not any(scripts.is_ours(w, line.bases) for w in named)


def judge_copy(name: str, words: "list[str]", line: Line) -> str:
    """Judges what copies, moves or links: its destination, and its sources where they do not stay what they are."""
    operands, into = [], ""
    rest = words[1:]
    for index, word in enumerate(rest):
        if word in ("-t", "--target-directory") and index + 1 < len(rest):
            into = rest[index + 1]
        elif word.startswith("--target-directory="):
            into = word.partition("=")[2]
        elif not word.startswith("-"):
            operands.append(word)
    options = [w for w in rest if w.startswith("-")]
    alone = len(operands) < 2 and not into
    sources = operands if into or alone else operands[:-1]
    target = into or ("." if alone else operands[-1])
    letters = {c for o in options if not o.startswith("--") for c in o}
    linked = name == "ln" or "--link" in options or "--symbolic-link" in options or (name == "cp" and letters & set("ls"))
    if line.protected(target) or any(line.protected(f"{target}/{base_name(s)}") and line.home(target) for s in sources):
        return HANDS_OFF
    if name == "mv" or linked or "--remove-source-files" in options:
        if any(line.protected(s) for s in sources):
            return HANDS_OFF
        if any(paths.holds_home(p) for s in sources for p in line.places(s)):
            return USERS_FOLDER
    whole = letters & set("raR") or any(o.startswith(("--recursive", "--archive", "--delete")) for o in options)
    if whole and line.home(target) and not alone:
        return USERS_FOLDER
    if line.names_record and any(line.unknown(w) for w in (target, *(sources if name == "mv" or linked else ()))):
        return HANDS_OFF
    return ""


def judge_tree_tool(name: str, words: "list[str]", line: Line) -> str:
    """Judges git, find and unpackers, which change whole trees."""
    inside = any(paths.is_home(b) for b in line.bases) or any(line.home(w) for w in words[1:] if not w.startswith("-"))
    if name == "find":
        starts = [w for w in words[1:] if not w.startswith("-")][:1] or ["."]
        named = [words[i + 1] for i, w in enumerate(words[:-1]) if w in ("-name", "-iname", "-path", "-ipath", "-wholename")]
        clear = named and not any(w in ("!", "-not", "-o", "-or") for w in words)
        if any(line.protected(n) or paths.mentions(n) for n in named):
            return "" if _only_looks(words) else HANDS_OFF
        reaches = any(paths.holds_home(p) for w in starts for p in line.places(w))
        known = (*paths.NAMES, *paths.JOB_NAMES)
        can = not clear or any(paths.could_be(n.rpartition("/")[2].lower(), k) for n in named for k in known)
        return USERS_FOLDER if reaches and can and not _only_looks(words) else ""
    if name == "git":
        if git_verb(words) == "clean":
            dry = any(w in ("-n", "--dry-run") for w in words)
            return USERS_FOLDER if not dry and any(paths.holds_home(b) for b in line.bases) else ""
        return USERS_FOLDER if inside else ""
    return USERS_FOLDER if inside else ""


def _only_looks(words: "list[str]") -> bool:
    """True for a find whose commands only look."""
    if any(w.startswith(("-delete", "-fprint", "-fls")) for w in words):
        return False
    inner = [words[i + 1 :] for i, w in enumerate(words) if w in ("-exec", "-execdir", "-ok", "-okdir")]
    return all(w and is_looking(base_name(w[0]), w) for w in inner)
