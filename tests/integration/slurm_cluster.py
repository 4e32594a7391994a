"""A one-node SLURM cluster of our own with two fake GPUs: its own key, ports and folders, nothing of the machine's."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import services

_CONF = """\
ClusterName=deft
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmdSpoolDir={root}/spool
StateSaveLocation={root}/state
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=5
MinJobAge=600
JobRequeue=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""


class SlurmCluster:
    """munged, slurmctld and slurmd of one private cluster."""

    def __init__(self) -> None:
        services.need_root()
        services.need_commands({"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"})
        self.root = Path(tempfile.mkdtemp(prefix="deft-slurm-"))
        self.root.chmod(0o755)
        self._daemons: list[subprocess.Popen] = []
        self.environment = {"SLURM_CONF": str(self.root / "slurm.conf")}

    def start(self) -> None:
        """Write the configuration, start the daemons and wait until the node is idle."""
        host = socket.gethostname().split(".")[0]
        for name in ("spool", "state"):
            (self.root / name).mkdir()
        for name in ("gpu0", "gpu1"):  # SLURM wants device files; these are /dev/null's
            os.mknod(self.root / name, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        self._conf("slurm.conf", _CONF.format(root=self.root, host=host, ports=_free_ports(2), cpus=os.cpu_count()))
        self._conf("gres.conf", f"NodeName={host} Name=gpu File={self.root}/gpu[0-1]\n")
        self._conf("cgroup.conf", "CgroupAutomount=no\n")
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={self.root}/munge.sock",
            *(f"--{kind}-file={self.root}/munge.{kind}" for kind in ("pid", "log", "seed")),
        )
        services.wait_for(lambda: (self.root / "munge.sock").exists(), 30, "munged")
        self._daemon("slurmctld", "-D", "-i", "-f", str(self.root / "slurm.conf"))
        self._daemon("slurmd", "-D", "-N", host, "-f", str(self.root / "slurm.conf"))
        try:
            services.wait_for(lambda: self.run("sinfo", "-h", "-o", "%T").strip() == "idle", 60, "the node to be idle", 0.3)
        except AssertionError:
            tail = "".join(
                (self.root / f"{n}.log").read_text()[-600:] for n in ("slurmctld", "slurmd") if (self.root / f"{n}.log").exists()
            )
            self.stop()
            services.unavailable(f"the SLURM cluster does not come up here: {tail}")

    def run(self, command: str, *arguments: str) -> str:
        """Run one of SLURM's commands against this cluster; empty where it fails."""
        return subprocess.run(
            [services.which(command), *arguments],
            env={**os.environ, **self.environment},
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        ).stdout

    def stop(self) -> None:
        """Cancel what runs and end the daemons."""
        self.run("scancel", "--state=RUNNING", "--me")
        self.run("scancel", "--state=PENDING", "--me")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def _conf(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.root / f"{name}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    [services.which(name), *arguments],
                    stdout=out,
                    stderr=out,
                    env={**os.environ, **self.environment},
                    start_new_session=True,
                )
            )


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
