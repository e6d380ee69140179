"""What the machine has: array libraries, devices, threads, the compiled library, and files that are written safely."""
