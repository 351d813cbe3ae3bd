#!/usr/bin/env bash
# What is to be measured on a GPU, one measurement a call, results into $OUT (default: runs/on_gpu).
# It needs jax, flax, optax, chex, jaxtyping, numpy and pillow alone, and the data in data/cifar10
# and data/mnist ($DATA, if not data). Where .git is not, CGJAX_COMMIT is the commit that results tell.
#
#   benchmarks/on_gpu.sh recurrence             # the recurrence beside lax.scan, and its bound
#   benchmarks/on_gpu.sh sweep grouped          # small convolutions: grouped, products or loop
#   benchmarks/on_gpu.sh pcff                   # the cost of a step with PCFF
#   benchmarks/on_gpu.sh indrnn sequential 20   # epochs; or permuted
#   benchmarks/on_gpu.sh resnet 25              # epochs of the shortened schedule
#
# The last two take options of `python -m train.bare` behind, as the faster of
# `--implementation mosaic_gpu` and none, or of `--form products --dtype bfloat16 --width 8` and none.
# They begin no epoch after $BUDGET seconds (default: 420), save, test, and say how to continue: with
# `--from FOLDER` behind, a copy of what came back. ResNet20's checkpoint has 3.5 MB a run, so that
# `--seeds 0 1` makes 56 MB of the 16 runs; other seeds in calls of their own (`train.report` joins).
#
# Where a call carries less than CIFAR-10 (98.7 MB), but files stay for the next: here, once,
#
#   benchmarks/on_gpu.sh split data/cifar10/cifar10.zip
#
# and there two calls of the following, of which the first carries data/cifar10/cifar10.zip.part0, the
# second .part1, and both data/cifar10/cifar10.zip.sha256. It keeps the parts in $KEEP (default:
# ~/cgjax_parts); the second call joins and checks them, and goes on with `&& ... resnet 25`.
#
#   benchmarks/on_gpu.sh data data/cifar10/cifar10.zip
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/on_gpu} data=${DATA:-data} budget=${BUDGET:-420}
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
        "$python" -m train.bare indrnn --data-dir "$data/mnist" --order "$order" \
            --epochs "$epochs" --out "$out/indrnn_$order" --budget-seconds "$budget" "${@:4}"
        ;;
    resnet)
        "$python" -m train.bare resnet --data-dir "$data/cifar10" \
            --length "${2:?the number of epochs}" --out "$out/resnet" \
            --budget-seconds "$budget" "${@:3}"
        ;;
    split)
        file=${2:?the file}
        split --number=2 --numeric-suffixes --suffix-length=1 "$file" "$file.part"
        (cd "$(dirname "$file")" && sha256sum "$(basename "$file")") >"$file.sha256"
        ;;
    data)
        file=${2:?the file} keep=${KEEP:-$HOME/cgjax_parts}
        mkdir -p "$keep"
        for part in "$file.part0" "$file.part1"; do
            kept=$keep/$(basename "$part")
            if [[ -e $part ]]; then cp "$part" "$kept"; fi
            if [[ ! -e $kept ]]; then missing=$part; fi
        done
        if [[ -n ${missing:-} ]]; then
            echo "$missing is still missing: carry it in the next call"
            exit
        fi
        cat "$keep/$(basename "$file")".part[01] >"$file"
        (cd "$(dirname "$file")" && sha256sum --check "$(basename "$file").sha256")
        ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
