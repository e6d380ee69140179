# docker build -t fullbatch .                              the CPU image
# docker build -t fullbatch:cuda --build-arg EXTRA=cuda13 .   the GPU image; run it with --gpus all
FROM python:3.12-slim

# cuda12 or cuda13 adds CuPy and CUDA's libraries as wheels: the base image stays the same.
ARG EXTRA=plot

WORKDIR /opt/fullbatch
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir ".[plot,bench,${EXTRA}]"

RUN useradd --create-home --uid 1000 user && install -d -o user /work /home/user/.cupy
USER user
# Compiled kernels are kept between runs where this is a volume.
ENV CUPY_CACHE_DIR=/home/user/.cupy
VOLUME /home/user/.cupy
WORKDIR /work

ENTRYPOINT ["fullbatch"]
CMD ["train"]
