# docker build -t fullbatch .                                  the CPU image
# docker build -t fullbatch:dask --build-arg EXTRA=dask .      the same with Dask, for compose.yaml
# docker build -t fullbatch:cuda --build-arg EXTRA=cuda13 .    the GPU image; run it with --gpus all

# The compiler stays in this stage; a library that does not compile ends the build.
FROM python:3.12-slim AS build
# hadolint ignore=DL3008  # whatever compiler the base image's distribution has
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN FULLBATCH_REQUIRE_NATIVE=1 pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim

# cuda12 or cuda13 adds CuPy and CUDA's libraries as wheels: the base image stays the same.
ARG EXTRA=bench
# There is no git in the image, so the revision that the benchmarks write down comes from outside.
ARG REVISION=unknown

WORKDIR /opt/fullbatch
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[plot,bench,${EXTRA}]"
COPY bench bench

# Not root; and whoever runs the image as another user (--user) can write to both folders as well.
RUN useradd --create-home --uid 1000 fullbatch \
    && install -d -m 1777 /results /var/cache/cupy
# The last two are for NVIDIA's runtime, where nobody says --gpus; in the CPU image they mean nothing.
ENV CUPY_CACHE_DIR=/var/cache/cupy \
    MPLCONFIGDIR=/tmp/matplotlib \
    FULLBATCH_REVISION=${REVISION} \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Compiled kernels are kept between runs where this is a volume.
VOLUME /var/cache/cupy
USER 1000

# The benchmark of throughput as m grows; `docker run fullbatch fullbatch train` trains instead.
CMD ["python", "-m", "bench", "scaling", "--out", "/results"]
