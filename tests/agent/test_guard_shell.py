"""Ways round the hook that were thought of: each is denied, and the everyday line beside it is not."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deft_aoi
from deft_aoi.contract import plans

ROOT = Path(deft_aoi.__file__).parents[2]
sys.path.insert(0, str(ROOT / "hooks"))
import guard_line  # noqa: E402
from guard_judge import judge_command  # noqa: E402
from guard_shell import parse  # noqa: E402

DIGEST = "0123456789ab" + "c" * 46 + "f00d42"
S = "python3 /opt/skill/scripts/"
RUN = "results/run_20260101_120000"


@pytest.fixture
def w(tmp_path, monkeypatch):
    """A workspace with one run, and a project that has a ``run/`` folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plans.write_pending({"digest": DIGEST, "workspace": str(tmp_path)})
    (tmp_path / RUN / "run").mkdir(parents=True)
    for name in ("loop_log.jsonl", "deft_state.json", "run/plan.json", "run/log.index"):
        (tmp_path / RUN / name).write_text("{}\n")
    (tmp_path / "other/run").mkdir(parents=True)
    (tmp_path / "other/run/plan.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / RUN / "run")
    (tmp_path / "plain.txt").symlink_to(tmp_path / RUN / "loop_log.jsonl")
    return tmp_path


FROM_THE_WORKSPACE = [
    # folders entered on the way, in every order
    f"cd {RUN}/run && echo x > log.index",
    f"cd {RUN} && cd run && echo x > log.index",
    "cd results; cd run_*; cd run; echo x > log.index",
    f"pushd {RUN}/run; printf x | tee log.lock",
    f"(cd {RUN}/run; truncate -s 0 plan.json)",
    f"echo hi; cd {RUN}/run && rm -f reserve",
    f"D={RUN}/run; cd $D && echo x > log.index",
    f"for d in {RUN}/run; do cd $d; touch run.lock; done",
    f"f() {{ cd {RUN}/run; }}; f; echo x > log.index",
    f"bash -c 'cd {RUN}/run; echo x > log.index'",
    f'eval "cd {RUN}/run; echo x > log.index"',
    f"env -C {RUN}/run tee log.index < /else/x",
    f"env --chdir={RUN}/run sed -i s/a/b/ plan.json",
    f"sudo -D {RUN}/run tee log.index < /else/x",
    f"git -C {RUN}/run checkout -- log.index",
    f"git -C {RUN} clean -fdx",
    f"make -C {RUN}/run && cp /else/x log.index && ls -C",
    f"tar -C {RUN} -xf /else/x.tar",
    f"cd {RUN} && tar xf /else/x.tar",
    f"unzip -o /else/x.zip -d {RUN}",
    "echo x > link/log.index",
    "cd link && echo x > log.index",
    "echo x >> plain.txt",
    # found, piped, substituted
    f"find {RUN} -name log.index -delete",
    "find . -name 'loop_lo*' -exec truncate -s 0 {} +",
    "find results -type f -exec sed -i s/a/b/ {} \\;",
    "find . -name loop_log.jsonl | xargs rm",
    f"echo {RUN}/loop_log.jsonl | xargs truncate -s 0",
    f'ls {RUN}/loop_log.jsonl | while read f; do rm "$f"; done',
    f"f() {{ echo x > $1; }}; f {RUN}/loop_log.jsonl",
    f"set -- {RUN}/loop_log.jsonl; echo x > $1",
    f"xargs -a /else/names -I{{}} cp /else/x {RUN}/run/log.index",
    f"cat /else/x | tee >(cat > {RUN}/deft_state.json)",
    f"echo x > $(echo {RUN}/loop_log.jsonl)",
    f"echo x > `echo {RUN}/loop_log.jsonl`",
    # spelled
    f"echo x > {RUN}/loop_lo?.jsonl",
    f"echo x > {RUN}/*.jsonl",
    f"rm {RUN}/*",
    f"cd {RUN} && rm *.json",
    "sed -i s/a/b/ results/*/*.jsonl",
    f"echo x > {RUN}/[l]oop_log.jsonl",
    f"echo x > {RUN}/l{{oop_log.jsonl,}}",
    f"rm {RUN}/{{iter1,loop_log.jsonl}}",
    f"echo x > {RUN}/$'\\x6coop_log.jsonl'",
    f"echo x > {RUN}/lo''op_\"log\".jsonl",
    f"echo x > {RUN}/loop\\_log.jsonl",
    f"echo x > {RUN}/loop_\\\nlog.jsonl",
    f"a=loop_; b=log.jsonl; echo x > {RUN}/$a$b",
    f"a={RUN}/loop; echo x > ${{a}}_log.jsonl",
    f"echo x > {RUN}/./run/../loop_log.jsonl",
    f"echo x > {RUN}//run//log.index",
    f"echo x > {RUN}/LOOP_LOG.jsonl",
    f"echo x > ${{X:-{RUN}/loop_log.jsonl}}",
    # programs
    f"cd {RUN}/run && python3 -c \"open('log.index','w')\"",
    f"python3 -c \"import os; os.chdir('{RUN}/run'); open('log.index','w')\"",
    f"cd {RUN}/run && python3 - <<'E'\nopen('log.index', 'w').write('it')\nE",
    f"python3 <<< \"open('{RUN}/loop_log.jsonl','w')\"",
    f"echo \"open('{RUN}/loop_log.jsonl','w')\" | python3",
    f"echo 'rm {RUN}/loop_log.jsonl' | sh",
    f"sh <<E\nrm {RUN}/loop_log.jsonl\nE",
    f"awk '{{print > \"{RUN}/loop_log.jsonl\"}}' /else/x",
    'python3 -c \'from deft_aoi.contract import plans; plans.write_approval("x", "y", "z", "")\'',
    "python3 - <<E\nfrom deft_aoi.record import log\nE",
    # writers that look like viewers, and copies
    f"sort /else/x -o {RUN}/loop_log.jsonl",
    f"uniq /else/x {RUN}/loop_log.jsonl",
    f"xxd -r /else/x {RUN}/loop_log.jsonl",
    f"sed -n 'w {RUN}/loop_log.jsonl' /else/x",
    f"sed -ni p {RUN}/loop_log.jsonl",
    f"dd if=/else/x of={RUN}/run/log.index",
    f"curl -o {RUN}/deft_state.json http://x",
    f"curl -o{RUN}/deft_state.json http://x",
    f"wget --output-document={RUN}/deft_state.json http://x",
    f"cp /else/loop_log.jsonl {RUN}/",
    f"cp -t {RUN} /else/deft_state.json",
    f"cp -r /else/forged/. {RUN}/",
    f"rsync -a /else/forged/ {RUN}",
    f"cp -l {RUN}/loop_log.jsonl /else/x",
    f"ln {RUN}/loop_log.jsonl /else/x",
    f"ln -s $PWD/{RUN}/run /else/a && echo x > /else/a/log.index",
    f"install -m 600 /else/plan.json {RUN}/run",
    # whole folders
    f"mv {RUN} /else/away",
    "mv results /else/away",
    f"rm -rf {RUN}",
    "rm -rf results",
    "rm -rf .",
    f"rm -r {RUN}/run",
    f"chmod -R a+w {RUN}",
    "git clean -fdx",
    # text that hides the rest
    f"cat <<E > /else/x\nit's\nE\nrm {RUN}/loop_log.jsonl",
    f"# it's a comment\nrm {RUN}/loop_log.jsonl",
    f"echo a#b; rm {RUN}/loop_log.jsonl",
    f"cat <<E\n$(rm {RUN}/loop_log.jsonl)\nE",
    f"trap 'rm {RUN}/loop_log.jsonl' EXIT",
    f"ssh localhost 'rm /w/{RUN}/loop_log.jsonl'",
    f"timeout -k 5 10 nice -n 3 rm {RUN}/loop_log.jsonl",
    f"if true; then rm {RUN}/loop_log.jsonl; fi",
    f"! rm {RUN}/loop_log.jsonl",
    f"\\rm {RUN}/loop_log.jsonl",
    f"/bin/rm {RUN}/loop_log.jsonl",
    f"command rm {RUN}/loop_log.jsonl",
    f"X=1 rm {RUN}/loop_log.jsonl",
    f"cat /else/x >| {RUN}/loop_log.jsonl",
    f"cat /else/x &>> {RUN}/loop_log.jsonl",
    f"exec 3<>{RUN}/loop_log.jsonl",
    f"echo x >{RUN}/loop_log.jsonl; true",
]

PERSONS_COMMANDS = [
    f"deft approve {DIGEST}",
    f"deft repair-run --results-dir {RUN}",
    "deft run-loop --workspace w --yes",
    f"python3 -m deft_aoi approve {DIGEST}",
    "python3 -m deft_aoi run-loop --workspace w --yes",
    f"cd /opt/skill/scripts && python3 -m approve {DIGEST}",
    "cat <<E > /else/x\nit's\nE\n" + f"{S}run_loop.py --workspace w --yes",
    f"# it's\n{S}run_loop.py --workspace w --yes",
    f"Y=--yes; {S}run_loop.py --workspace w $Y",
    f"read F <<< --yes; {S}run_loop.py --workspace w $F",
    f"echo --yes | xargs {S}run_loop.py --workspace w",
    f"{S}run_loop.py --workspace w --{{ye,x}}s",
    f"{S}run_loop.py --workspace w $'--\\x79es'",
    f"cat <<E\n$({S}approve.py {DIGEST})\nE",
    f"echo {DIGEST} | xargs {S}approve.py",
    f"python3 < /opt/skill/scripts/approve.py {DIGEST}",
    f"cat /opt/skill/scripts/approve.py | python3 - {DIGEST}",
    "python3 -c 'import approve; approve.main([])'",
    f"uv run /opt/skill/scripts/approve.py {DIGEST}",
    f"trap '{S}approve.py {DIGEST}' EXIT",
    f"sudo -u root {S}approve.py {DIGEST}",
    f"some-runner --quiet {S}approve.py {DIGEST}",
    f"docker exec box deft approve {DIGEST}",
    f"find /opt/skill -name approve.py -exec python3 /opt/skill/scripts/approve.py {DIGEST} \\;",
    f"{S}log_stage.py --log-path {RUN}/loop_log.jsonl --iter-label iter1 --stag train --status ok --summary x",
]

LEFT_ALONE = [
    "cd other && echo x > run/plan.json",
    "cd other/run && echo x > plan.json && rm plan.json",
    "touch /else/reserve /else/run.lock",
    f"cat {RUN}/loop_log.jsonl | jq .seq | sort | uniq -c",
    f"F={RUN}/loop_log.jsonl; wc -l $F",
    f"cd {RUN} && tail -n 3 loop_log.jsonl",
    f"cp -r {RUN} /else/backup",
    f"cp {RUN}/best_model.json /else/",
    f"tar czf /else/run.tgz {RUN}",
    f"rsync -a {RUN} /else/backup/",
    f"cp /else/notes.md {RUN}/",
    f"echo x > {RUN}/iter1_summary.md",
    f"cd {RUN}/run && ls -la && cat plan.json > /else/plan_copy",
    f"find {RUN} -name '*.png'",
    "find . -name '*.tmp' -delete",
    "find . -name '*.jsonl' -exec wc -l {} +",
    "find . -name loop_log.jsonl | xargs wc -l",
    f"rm -rf {RUN}/iter1.tmp-x build dist",
    "rm *.tmp",
    "rm -rf node_modules",
    "rm -f *.json.bak",
    "git clean -n",
    "git -C other status",
    f"grep -rn run_loop {RUN}",
    f"git add {RUN}/loop_log.jsonl && git commit -m 'the log: it is loop_log.jsonl > all'",
    "git -C other commit -am 'approve.py --yes'",
    "sed -n '1,3p' other/x && sed -i s/a/b/ other/x",
    "echo $HOME > $OUT",
    "make -C other -j4 test",
    "python3 -c \"import json; print(json.load(open('results/run_20260101_120000/best_model.json'))['threshold'])\"",
    "python3 - <<'E'\nprint('hello; it is fine')\nE",
    "for f in *.py; do python3 -m py_compile $f; done",
    "cat > notes.md <<'E'\nit's a note\nE",
    "npm install && npm run build 2>&1 | tee /else/log",
    "docker ps -a --format '{{.Names}}'",
    'echo "unbalanced',
    "# just a comment with it's",
    'x=$(ls | wc -l); echo "$x files"',
    "tar xf /else/x.tar -C other",
    "curl -s http://x | python3 -m json.tool",
    "awk '{print $1}' other/x | sort -u",
    f"{S}status.py --results-dir {RUN}",
    "deft status --results-dir r",
    "python3 -m deft_aoi status --results-dir r",
    "python -m pytest tests -q",
    f"{S}next_stage.py --results-dir {RUN} | tail -3",
    f"tail -f {RUN}/run/logs/driver.log",
    f"test -f {RUN}/run/plan.json && echo yes",
]


@pytest.mark.parametrize("command", FROM_THE_WORKSPACE)
def test_a_way_to_write_a_record_file_is_denied(w, command):
    assert judge_command(command, str(w))


@pytest.mark.parametrize("command", PERSONS_COMMANDS)
def test_a_way_to_do_what_is_the_persons_is_denied(w, command):
    plans.write_approval(DIGEST, "terminal", "go")
    assert judge_command(command, str(w))


@pytest.mark.parametrize("command", LEFT_ALONE)
def test_everyday_work_is_left_alone(w, command):
    assert judge_command(command, str(w)) == ""


HERE = ["echo x > log.index", "rm -f plan.json", "sed -i s/a/b/ ../loop_log.jsonl", "cp /else/x reserve", "rm *"]


@pytest.mark.parametrize("command", HERE)
def test_the_shells_own_folder_counts(w, command):
    assert judge_command(command, str(w / RUN / "run"))
    assert judge_command(command, str(w / "other")) == "" or "loop_log" in command


WAYS = [
    "echo x > {}",
    "tee -a {} < /else/x",
    "sed -i s/a/b/ {}",
    "cp /else/x {}",
    "mv /else/x {}",
    "rm -f {}",
    "truncate -s 0 {}",
    "dd if=/else/x of={}",
    "ln -sf /else/x {}",
    "python3 -c \"open('{}','w')\"",
    "install /else/x {}",
    "touch {}",
]
WRAPS = [
    "{}",
    "sudo {}",
    "bash -c '{}'",
    "true && {}",
    "if true; then {}; fi",
    "( {} )",
    "{{ {}; }}",
    "x=$({})",
    "nohup {} &",
    "echo it; # it's\n{}",
    "cat <<E > /else/x\nit's\nE\n{}",
    "f() {{ {}; }}; f",
    "for i in 1; do {}; done",
    "eval '{}'",
]
NAMES = ["../loop_log.jsonl", "../deft_state.json", *("plan.json log.index log.lock run.lock reserve spot_check.json".split())]
ENTRIES = [
    "cd {d} && {c}",
    "cd {d}\n{c}",
    "pushd {d}; {c}",
    "D={d}; cd $D; {c}",
    "{c}; cd {d}",
    "cd results; cd run_*/run; {c}",
    "cd link; {c}",
    "git -C {d} status; {c}",
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(WAYS), st.sampled_from(WRAPS), st.sampled_from(NAMES), st.sampled_from(ENTRIES), st.booleans(), st.data())
def test_no_combination_of_ways_wraps_and_folders_gets_through(way, wrap, name, entry, inside, data):
    w = run_folder()
    spelled = data.draw(st.sampled_from(spellings(name))) if "python3" not in way else name
    command = way.format(spelled)
    if "'" in command and "'{}'" in wrap:
        wrap = "{}"
    line = entry.format(d=f"{RUN}/run", c=command)
    line = wrap.format(line) if inside else entry.format(d=f"{RUN}/run", c=wrap.format(command))
    assert judge_command(line, w), line


def spellings(name):
    """One name as a shell would read it from many spellings."""
    stem, middle = name.rpartition("/")[::2]
    folder = f"{stem}/" if stem else ""
    cut = len(middle) // 2
    a, b = middle[:cut], middle[cut:]
    plain = [name, f"./{name}", f'"{name}"', f"{folder}{a}\\{b}", f'{folder}{a}""{b}']
    return [*plain, f"{folder}{a}{{{b},}}", f"{folder}{a}?{b[1:]}", f"{folder}{a}*"]


def run_folder(kept={}):  # noqa: B006
    """A workspace that outlives one example."""
    if "w" not in kept:
        import tempfile

        kept["folder"] = tempfile.TemporaryDirectory()
        base = Path(kept["folder"].name)
        (base / RUN / "run").mkdir(parents=True)
        (base / RUN / "loop_log.jsonl").write_text("{}\n")
        (base / "link").symlink_to(base / RUN / "run")
        kept["w"] = str(base)
    return kept["w"]


FLOODS = [
    "cd a;" * 500,
    "cd x && " * 40 + f"cd {RUN}/run && ",
    "$(" * 3000,
    "`" * 3001,
    "{a,b}" * 60 + " ",
    "((" * 2000,
    "<<E " * 500,
    "'\"" * 3000,
    "a=$a$a;" * 200 + "echo $a > ",
    "eval '" * 50,
    "$" * 5000,
    "x " * 20000,
    'bash -c "' * 30,
    "[a" * 3000,
    "*" * 3000 + " ",
    "~" * 3000,
    "".join(f"cd d{i}; touch f{i}; " for i in range(500)),
    "find . -exec " * 300,
    "xargs " * 3000,
    "sudo " * 3000,
    "${x:-" * 2000,
    "cp a b;" * 2000,
]


@pytest.mark.parametrize("flood", FLOODS, ids=range(len(FLOODS)))
def test_a_flood_hides_nothing(w, flood, monkeypatch):
    """Ten times what one call may cost: these are no lines that anybody writes."""
    monkeypatch.setattr(guard_line, "MOST_SECONDS", 600)  # of the clock; here the processor's time counts
    judge_command(flood, str(w))
    hidden = judge_command(f"{flood}\necho x > {RUN}/loop_log.jsonl", str(w))
    assert hidden or "<<E " in flood, "what stands in a here-document is not run"


def test_what_takes_too_long_is_not_waved_through(w, monkeypatch):
    """The harness lets a call pass whose hook runs out of time; an error before that blocks the call (test_guard.py)."""
    monkeypatch.setattr(guard_line, "MOST_SECONDS", -1)
    with pytest.raises(TimeoutError):
        judge_command(f"touch {RUN}/x", str(w))


def test_many_folders_hide_no_file(w):
    decoys = "".join(f"cd d{i}; " for i in range(100))
    assert judge_command(f"({decoys}true); cd {RUN}; cd run; echo x > log.index", str(w))
    assert judge_command(f"{decoys} echo x > out.txt", str(w)) == ""


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab ./$'\"\\`(){}<>|&;#*?[]=~\n-0", max_size=40))
def test_any_text_is_read_to_its_end_and_a_foreign_one_is_left_alone(text):
    commands, _ = parse(text)
    assert all(isinstance(word, str) for c in commands for word in itertools.chain(c.words, c.targets, c.nested))
    assert judge_command(text, "/nowhere") == ""


def documented():
    """The shell lines that the skill's own texts tell an agent to run."""
    texts = [ROOT / "SKILL.md", ROOT / "agents/reporter.md", *sorted((ROOT / "references").glob("*.md"))]
    lines = [line.strip() for text in texts for line in text.read_text().splitlines()]
    return sorted({line for line in lines if line.startswith("python3 scripts/")})


def test_what_the_skill_tells_an_agent_to_run_is_left_alone_once_the_plan_is_approved(w):
    lines = [line.replace("RESULTS_DIR", RUN).replace("scripts/", f"{ROOT}/scripts/") for line in documented()]
    assert len(lines) > 25
    early = {Path(line.split()[1]).stem for line in lines if judge_command(line, str(w))}
    assert early == {"run_loop"}, "the one line that opens a run; the others name a run that is open"
    plans.write_approval(DIGEST, "terminal", "go")
    for line in lines:
        for around in ("{}", "cd " + str(w) + " && {}", "{} 2>&1 | tail -15", "timeout 600 {}"):
            assert judge_command(around.format(line), str(w)) == "", line


def test_a_hook_writes_no_file_but_the_approval(w, tmp_path):
    """No copy of transcripts, settings or debug output anywhere that it can reach."""
    home = tmp_path / "home"
    home.mkdir()
    before = set(tmp_path.rglob("*"))
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    for command in (f"rm {RUN}/loop_log.jsonl", "ls", f"{S}status.py --results-dir {RUN}"):
        call = json.dumps({"tool_name": "Bash", "tool_input": {"command": command}, "cwd": str(w)}).encode()
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(ROOT / "hooks/guard.py"), "tool"], input=call, env=env, cwd=home, capture_output=True
        )
        assert done.returncode == 0
    assert set(tmp_path.rglob("*")) == before
