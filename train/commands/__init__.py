"""What the subcommands of `plastic` do: a file each, with a function `run`.

`train.cli` reads the command line for the arguments of that function. A file may have a function
`command` besides, which returns another one for the words of a command line, where the options
depend on them.
"""
