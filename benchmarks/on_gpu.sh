#!/usr/bin/env bash
# What is to be measured on a GPU, one measurement a call, results into $OUT (default: runs/on_gpu).
# It needs what `pip install cgjax[train]` brings but tensorflow-datasets and blackjax, and the data in
# data/cifar10, data/mnist and data/kjv ($DATA, if not data). Where there is no package index, but jax, flax,
# optax, chex, jaxtyping, orbax-checkpoint, scikit-learn, matplotlib, rich and pillow, three pure
# Python wheels are missing, tyro, docstring-parser and typeguard (for cp312/any, as for others):
#
#   benchmarks/on_gpu.sh wheels    # downloads them into wheels/ ($WHEELS, if not that); carry it along
#
# Where .git is not, CGJAX_COMMIT is the commit that results tell.
# Each call is meant to end within ten minutes on an H200. The tables find what recurrence, cost and
# sweep leave in results/benchmarks/gpu/. Factors of float32 products may be rounded to TF32;
# JAX_DEFAULT_MATMUL_PRECISION=highest keeps all their bits.
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
#   benchmarks/on_gpu.sh vae 50 1000            # samples of the bound, epochs; then 5, then 1
#   benchmarks/on_gpu.sh vae 50 1000 pathwise   # the same of one gradient
#   benchmarks/on_gpu.sh gan mnist 50           # epochs; or ring, or digits
#   benchmarks/on_gpu.sh characters kjv 12      # epochs; or tinyshakespeare
#   benchmarks/on_gpu.sh images cifar10 preact-resnet-18 moments_natural 0   # a cell of Table 1, a seed
#
# All cells of Table 1, and all rows of autoencoders, most valuable first, with the estimated number of
# calls of each:
#   benchmarks/on_gpu.sh images
#   benchmarks/on_gpu.sh vae
#
# They are `python -m train.indrnn`, `train.resnet`, `train.vae`, `train.gan`, `train.characters` and
# `train.images`, and take their options behind, as the faster of `--implementation mosaic_gpu` and none, or of `--form products --dtype
# bfloat16 --width 8` and none, or `--latents gaussian`. They begin no epoch after $BUDGET seconds
# (default: 400, which leaves three minutes of ten for the start, the last epoch and the test), save,
# test, and say how to continue: the same call in the same place. Where only few small files come
# back, PACK=1 leaves the checkpoint in pieces of 15 MiB beside result.json, and FROM=FOLDER has a
# later call continue from what came back. ResNet20's has 3.5 MB a run, so that `--seeds 0 1` makes
# 56 MB of the 16 runs; other seeds in calls of their own (`train.report` joins). An autoencoder's has
# 7 MB a run, so that `--latents gaussian --gradients pathwise` makes 21 MB of the three seeds.
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
out=${OUT:-runs/on_gpu} data=${DATA:-data} budget=${BUDGET:-400} wheels=${WHEELS:-wheels}
carried=(tyro docstring-parser typeguard)
mkdir -p "$out"
python=${PYTHON:-python3}

# train NAME FOLDER OPTION...: an experiment, with the wheels it lacks, from a packed checkpoint
train() {
    local folder=$out/$2 packed=${FROM:-$out/$2} from=() newest
    if ! "$python" -c 'import tyro' 2>/dev/null; then
        PYTHONPATH=$(mktemp -d):${PYTHONPATH:-}
        export PYTHONPATH
        "$python" -m pip install --quiet --no-index --find-links "$wheels" --no-deps \
            --target "${PYTHONPATH%%:*}" "${carried[@]}"
    fi
    if [[ -e $packed/checkpoint.tar.aa ]]; then
        from=(--from "$(mktemp -d)")
        cat "$packed"/checkpoint.tar.* | tar --extract --directory "${from[1]}"
    elif [[ -n ${FROM:-} ]]; then
        from=(--from "$FROM")
    fi
    "$python" -m "train.$1" --out "$folder" --budget-seconds "$budget" "${from[@]}" "${@:3}"
    if [[ -n ${PACK:-} ]]; then
        newest=$(ls "$folder/checkpoint" | sort --numeric-sort | tail --lines=1)
        rm -f "$folder"/checkpoint.tar.*
        tar --create --directory "$folder" "checkpoint/$newest" |
            split --bytes=15M - "$folder/checkpoint.tar."
        rm -r "$folder/checkpoint"
    fi
}

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
        train indrnn "indrnn_$order" --data-dir "$data/mnist" --order "$order" \
            --epochs "$epochs" "${@:4}"
        ;;
    resnet)
        train resnet resnet --data-dir "$data/cifar10" \
            --length "${2:?the number of epochs}" "${@:3}"
        ;;
    vae)
        if [[ $# == 1 ]]; then exec "$python" -m train.vae.plan; fi
        samples=$2 epochs=${3:?the number of epochs} folder=vae_$2 rest=("${@:4}")
        if [[ -n ${4:-} && $4 != --* ]]; then
            folder+=_$4 rest=(--gradients "$4" "${@:5}")
        fi
        train vae "$folder" --data mnist --data-dir "$data/mnist" --test-images 10000 \
            --samples "$samples" --length "$epochs" "${rest[@]}"
        ;;
    gan)
        set=${2:?ring, digits or mnist} epochs=${3:?the number of epochs} files=()
        if [[ $set == mnist ]]; then files=(--data-dir "$data/mnist"); fi
        train gan "gan_$set" --data "$set" "${files[@]}" --length "$epochs" "${@:4}"
        ;;
    characters)
        set=${2:?tinyshakespeare or kjv}
        train characters "characters_$set" --data "$set" --data-dir "$data/$set" \
            --length "${3:?the number of epochs}" "${@:4}"
        ;;
    images)
        if [[ $# == 1 ]]; then exec "$python" -m train.images.plan; fi
        set=$2 network=${3:?the network} method=${4:?the method} seed=${5:?the seed}
        train images "images_${set}_${network}_${method}_$seed" --data "$set" \
            --data-dir "$data/$set" --network "$network" --method "$method" --seeds "$seed" "${@:6}"
        ;;
    wheels)
        "$python" -m pip download --quiet --dest "$wheels" --no-deps --only-binary=:all: \
            --python-version 3.12 --constraint constraints.txt "${carried[@]}"
        ls "$wheels"
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
