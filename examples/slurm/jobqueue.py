"""Choose and store slices on workers that dask-jobqueue asks Slurm for, as many as there is work.

pip install dask-jobqueue
python examples/slurm/jobqueue.py study.toml
"""

import subprocess
import sys

from dask_jobqueue import SLURMCluster


def main(study: str) -> int:
    """Run ctkit as a client of the cluster; return its exit code."""
    with SLURMCluster(cores=16, processes=16, memory="32GB", walltime="04:00:00") as cluster:  # of each job
        cluster.adapt(minimum=16, maximum=256)
        address = ("--set", "compute.backend=dask", "--set", f"compute.scheduler={cluster.scheduler_address}")
        return subprocess.run(["ctkit", "run", study, "--until", "materialise", *address]).returncode


if __name__ == "__main__":  # the processes that Dask starts import this file again
    sys.exit(main(sys.argv[1]))
