"""Odd values against everything that a user can call, or hand in as a file.

python -m benchmarks.fuzz --seconds 120 --json

Each kind (a module of that name) makes its n-th case from a seed and n alone. A case works, is
refused clearly (an error that names the argument or the file), or is something `other`: another
error, a crash, a hang, memory beyond a limit, a wrong result, a file where none belongs. Cases run
in a process of their own (`worker`), so that a crash is a finding and not the end.
"""
