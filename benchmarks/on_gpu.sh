#!/usr/bin/env bash
# What is to be measured on a GPU, one measurement a call, results into $OUT (default: runs/on_gpu).
# It needs jax, flax, optax, chex, jaxtyping, numpy and pillow alone, and the data in data/cifar10
# and data/mnist.
#
#   benchmarks/on_gpu.sh recurrence             # the recurrence beside lax.scan, and its bound
#   benchmarks/on_gpu.sh sweep grouped          # small convolutions: grouped, products or loop
#   benchmarks/on_gpu.sh pcff                   # the cost of a step with PCFF
#   benchmarks/on_gpu.sh indrnn sequential 20   # epochs; or permuted
#   benchmarks/on_gpu.sh resnet 25              # epochs of the shortened schedule
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/on_gpu}
mkdir -p "$out"
python=${PYTHON:-python3}
case ${1:-} in
    recurrence) "$python" -m benchmarks.recurrence --output "$out/recurrence.json" ;;
    sweep)
        form=${2:?one of grouped, products, loop}
        "$python" -m benchmarks.sweep --preset gpu-short --form "$form" \
            --output "$out/sweep_$form.json"
        ;;
    pcff) "$python" -m benchmarks.pcff_overhead --output "$out/pcff_overhead.json" ;;
    indrnn)
        order=${2:?sequential or permuted} epochs=${3:?the number of epochs}
        "$python" -m train.bare indrnn --data-dir data/mnist --order "$order" \
            --epochs "$epochs" --out "$out/indrnn_$order"
        ;;
    resnet)
        "$python" -m train.bare resnet --data-dir data/cifar10 \
            --length "${2:?the number of epochs}" --out "$out/resnet"
        ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
