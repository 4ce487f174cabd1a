#!/bin/sh
# Record trl's own sft.py on loopback, predict it for three unequal sites, and run it there in a lab
# three times. run.sh FOLDER; Linux and root; pip install torch==2.13.0 trl==1.16.0
# transformers==5.24.0 accelerate==1.15.0 datasets==5.2.0
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
python "$here/inputs.py" .
cp "$here/three_sites.toml" .
train="python $(python -c 'import trl.scripts.sft as sft; print(sft.__file__)')
    --model_name_or_path model --dataset_name data --output_dir out
    --max_steps 28 --per_device_train_batch_size 2 --max_length 128 --logging_steps 4
    --use_cpu true --bf16 false --dtype float32 --ddp_backend gloo --gradient_checkpointing false
    --report_to none --save_strategy no --disable_tqdm true"
# torch 2.13 often never ends: a thread of gloo's and the end of a DDP module wait for each other
# (README.md). What was recorded is kept when that is cut off.
realrun record --nproc 2 --out sft.parquet -- timeout 90 $train || test -f sft.parquet
bandwise simulate three_sites.toml --algorithm gloo
for run in 1 2 3; do
    realrun lab three_sites.toml -- realrun record --out "there-$run.parquet" \
        -- timeout 200 $train || test -f "there-$run.parquet"
    python "$here/measured.py" "there-$run.parquet"
done
