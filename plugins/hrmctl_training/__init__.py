"""Training for the stages that train: the loop, its checkpoints, optimizers, data order and objectives.

A library package that stage plugins may import. Importing the package itself imports neither torch
nor transformers; its modules do.
"""
