#!/usr/bin/env bash
# What is to be measured on a GPU, one measurement a call, results into $OUT (default: runs/on_gpu).
# It needs jax, flax, optax, chex, jaxtyping, numpy and pillow alone, and the data in data/cifar10
# and data/mnist. Each call is meant to end within ten minutes on an H200. The tables find what
# recurrence, cost and sweep leave in results/benchmarks/gpu/. Factors of float32 products may be
# rounded to TF32; JAX_DEFAULT_MATMUL_PRECISION=highest keeps all their bits.
#
# Target: the recurrence 20 times as fast as lax.scan at (784, 32, 128), and half of the bound at
# (784, 512, 512), forward and backward; float32, then bfloat16
#   benchmarks/on_gpu.sh recurrence [bfloat16]
# Target: a step of ResNet20 with PCFF at most 1.10 times the plain one, and where the time goes
#   benchmarks/on_gpu.sh cost [bfloat16]
# Target: 60 runs at 8 times the images/s of one run, or half of the bound; one form and dtype a call
#   benchmarks/on_gpu.sh sweep grouped [bfloat16]
#   benchmarks/on_gpu.sh sweep products [bfloat16]
#   benchmarks/on_gpu.sh sweep loop [bfloat16]
# No target: the cost of PCFF in dense networks
#   benchmarks/on_gpu.sh pcff
#
# The experiments:
#   benchmarks/on_gpu.sh indrnn sequential 20   # epochs; or permuted
#   benchmarks/on_gpu.sh resnet 25              # epochs of the shortened schedule
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/on_gpu}
mkdir -p "$out"
python=${PYTHON:-python3}
case ${1:-} in
    recurrence)
        dtype=${2:-float32}
        "$python" -m benchmarks.recurrence --dtype "$dtype" --output "$out/recurrence_$dtype.json"
        ;;
    cost)
        dtype=${2:-float32}
        "$python" -m benchmarks.resnet_cost --dtype "$dtype" --output "$out/resnet_cost_$dtype.json"
        ;;
    sweep)
        form=${2:?one of grouped, products, loop} dtype=${3:-float32}
        "$python" -m benchmarks.sweep --preset gpu --form "$form" --dtype "$dtype" \
            --output "$out/sweep_${form}_$dtype.json"
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
