"""What one chip does: operations (cases) and their implementations (kernels).

A case knows its shape, FLOPs, bytes, inputs and how to check an output; a kernel computes it with one backend.
"""
