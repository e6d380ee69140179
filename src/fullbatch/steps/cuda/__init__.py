"""The steps on an NVIDIA GPU, through CuPy: kernels, and how they are launched."""
