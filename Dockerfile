# The README's commands in a container:
#   docker build -t ncn .
#   docker run --name ncn ncn make repro
#   docker run --rm ncn make test
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make chromium \
    && rm -rf /var/lib/apt/lists/*

# Nobody's rights are needed; WORKDIR alone would make a folder of root's.
RUN useradd --create-home ncn \
    && install --directory --owner=ncn --group=ncn /home/ncn/project
USER ncn
WORKDIR /home/ncn/project

# First what the environment is made of: an edit elsewhere does not install it anew.
COPY --chown=ncn:ncn Makefile requirements.lock requirements.hashes ./
RUN make setup

# With .git, which DVC's experiments and the comparison with the committed result need.
COPY --chown=ncn:ncn . .

CMD ["make", "repro"]
