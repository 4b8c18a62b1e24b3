"""What all our CUDA C++ shares: the instructions it uses (``intrinsics.cu``) and how a program is put together and loaded."""
