# CPU image: the pipeline on current Python and TensorFlow.
# This file has not been built yet; please report what does not work.
#
#   docker build -t fse .
#   docker run --rm -v "$PWD/workspace:/workspace" fse luigi --module pipeline FullRun --workspace /workspace
#
# On an Ascend host, start from CANN's image instead, which brings Python 3.7, TensorFlow 1.15 and npu_bridge
# (not built by us either; the tag and the driver mounts depend on your CANN release):
#
#   FROM <an image of CANN with Python 3.7 and TensorFlow 1.15>
#   WORKDIR /opt/fse
#   COPY . .
#   RUN pip install --no-deps . \
#    && grep -vE '^(tensorflow|numpy|protobuf)==' requirements/py3.7.txt > /tmp/rest.txt   # then install what is missing from it
#
#   docker run --rm --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm --device /dev/hisi_hdc \
#     -v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro fse-ascend fse doctor --set train.device=npu
FROM python:3.12-slim-bookworm

RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/fse
COPY requirements/py3.12.txt requirements/
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/py3.12.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .
WORKDIR /workspace
CMD ["luigi", "--module", "pipeline", "FullRun", "--workspace", "/workspace"]
