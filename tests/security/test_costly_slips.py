"""What scanners of skills mark down, looked for in the syntax tree of every file that is shipped; exceptions by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SHIPPED = sorted([*REPO.glob("scripts/**/*.py"), *REPO.glob("hooks/**/*.py")])
CODE_FROM_TEXT = frozenset({"eval", "exec", "compile", "__import__"})
MODULE_CALLS = frozenset(
    {
        "torch.load",
        "torch.hub.load",
        "yaml.load",
        "pickle.load",
        "pickle.loads",
        "marshal.loads",
        "os.system",
        "os.popen",
        "os.getenv",
        "subprocess.getoutput",
    }
)

EXCEPTIONS = {
    ("agent/local_tools.py", "getattr"): "a method by the name of a tool, which is looked up in the table of tools before",
    ("loop/options.py", "getattr"): "an argparse namespace has one attribute for each option of this very table",
    ("engines/embedded/checkpoint.py", "torch.load"): "weights_only=True, after the opcode scan",
}
ENVIRONMENT = {
    "agent/headless.py": "the model's id",
    "agent/replay.py": "a child's environment without the caller's keys",
    "agent/tools.py": "a child's environment without the model's keys",
    "agent/usage.py": "where Claude Code keeps transcripts",
    "analysis/digest_workers.py": "threads of a worker",
    "analysis/metric_values.py": "threads of a worker",
    "bootstrap.py": "where the skill's own environment is",
    "cli.py": "the user's state folder",
    "contract/user_folders.py": "the user's folders",
    "engines/container_images.py": "where the skill bank is",
    "loop/driver.py": "secrets to mask in the error that a driver leaves on disk",
    "loop/launch.py": "the model cache",
    "loop/checks/model_spec.py": "a child's environment",
    "mining/encoders.py": "the model cache",
    "mining/shards_ray.py": "Ray's switch",
    "platforms/base.py": "secrets by name",
    "platforms/credentials.py": "whether a credential is there",
    "platforms/docker.py": "secrets to mask",
    "platforms/docker_images.py": "the registry's key, for the engine's API",
    "platforms/gpus.py": "visible GPUs",
    "platforms/kubernetes.py": "secrets to mask",
    "platforms/local.py": "the few variables that a job inherits",
    "platforms/slurm.py": "secrets by name, and to mask",
}
"""Who may look at the environment, and for what. Everybody else gets what it needs as an argument."""


def slips(tree: ast.AST) -> set[str]:
    """Names of the slips in a syntax tree."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "environ" and ast.unparse(node.value) == "os":
            found.add("os.environ")
        if isinstance(node, ast.ImportFrom) and node.module == "os" and {a.name for a in node.names} & {"environ", "getenv"}:
            found.add("os.environ")
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in CODE_FROM_TEXT | MODULE_CALLS:
            found.add(name)
        if name == "getattr" and not isinstance(node.args[1], ast.Constant):
            found.add("getattr")
        if any(k.arg == "shell" and not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in node.keywords):
            found.add("shell")
    return found


def _where(path: Path) -> str:
    return path.relative_to(REPO).as_posix().removeprefix("scripts/deft_aoi/")


def test_no_shipped_file_has_a_slip_that_is_not_named_here() -> None:
    assert len(SHIPPED) > 150
    found = {(_where(path), slip) for path in SHIPPED for slip in slips(ast.parse(path.read_text(encoding="utf-8")))}
    allowed = set(EXCEPTIONS) | {(name, "os.environ") for name in ENVIRONMENT}
    assert found - allowed == set()
    assert set(EXCEPTIONS) - found == set(), "an exception that nothing needs any more"


@pytest.mark.parametrize(
    ("code", "slip"),
    [
        ("eval('1')", "eval"),
        ("exec('1')", "exec"),
        ("__import__('x')", "__import__"),
        ("getattr(a, b)", "getattr"),
        ("torch.load(x)", "torch.load"),
        ("yaml.load(x)", "yaml.load"),
        ("os.environ['A']", "os.environ"),
        ("from os import environ", "os.environ"),
        ("subprocess.run(x, shell=True)", "shell"),
        ("os.system('x')", "os.system"),
    ],
)
def test_each_slip_is_found_where_it_is(code: str, slip: str) -> None:
    assert slips(ast.parse(code)) == {slip}


def test_no_shipped_file_has_what_hides_text_or_names_a_socket() -> None:
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        for word in ("docker.sock", "--ipc=host", "--privileged", "chmod 777", "/etc/passwd", " " * 90):
            assert word not in text, f"{_where(path)}: {word}"
