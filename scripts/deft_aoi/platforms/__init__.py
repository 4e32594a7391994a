"""Where a job runs: local process, Docker, SLURM, Kubernetes; four verbs behind one vocabulary of states.

A platform never knows which stage it runs. This room imports ``contract`` only, and each platform's own client
(``docker``, ``kubernetes``) inside the function that needs it.
"""
