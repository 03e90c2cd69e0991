"""Ways to compute the same network over a sequence ("forms").

Every form is a function of the type `Form`. `naive` is the literal reading of the equations, slow
and obvious: the truth that the others are tested against.
"""
