#!/usr/bin/python3
"""The matrix of 030 through the JSON gateway: the same answers."""
import os
import sys

sys.argv.append('--json')
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), '030_rpc_matrix.t')
with open(path) as file:
    exec(compile(file.read(), path, 'exec'), {'__name__': '__main__', '__file__': path})
