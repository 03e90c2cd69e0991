"""Tasks in which what is seen does not depend on the answers.

One file each; `babi` reads what `stories` may tell, `posterior` is an oracle of `regression`.
"""
