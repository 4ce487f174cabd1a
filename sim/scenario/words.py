"""Letters of the papers and words of other projects, and what we call the same thing.

Read only to make an error more helpful: a key is never accepted under another name. A word may
stand for several keys: the one of the section in which it was written is meant.
"""

from __future__ import annotations

# Of the papers, torchft and torchtitan (sync_steps), OpenDiLoCo and PRIME (inner_steps,
# galaxy_size), hivemind, MaxText (diloco_sync_period), Accelerate (local_sgd_steps), DeepSpeed,
# Megatron-LM (train_iters, ddp_bucket_size), FSDP, NCCL and iperf3.
_WORDS = {
    "method.name": "semi_sync_method strategy algorithm",
    "method.sync_every": "H h K inner_steps local_steps num_inner_steps num_local_steps "
    "n_local_steps n_inner_steps sync_interval sync_steps sync_period outer_every outer_interval "
    "communication_interval diloco_sync_period diloco_interval diloco_steps local_sgd_steps",
    "method.num_fragments": "P p fragments n_fragments partitions num_diloco_fragments "
    "diloco_num_fragments",
    "method.fragment_sync_delay": "tau delay overlap_steps sync_delay num_delay_steps "
    "num_overlap_steps num_comm_overlap_steps num_communication_overlapping_steps",
    "method.outer_sync_delay": "k rounds_late_by rounds_late outer_delay staleness",
    "method.fragment_update_alpha": "alpha mixing mixing_factor merge_alpha comm_overlap_alpha "
    "communication_overlapping_alpha",
    "method.outer_lr": "outer_learning_rate lr_outer server_lr server_learning_rate "
    "diloco_outer_lr",
    "method.outer_momentum": "beta mu momentum server_momentum diloco_outer_momentum",
    "method.use_nesterov": "nesterov outer_nesterov",
    "method.comm_dtype": "precision compression quantization quantisation should_quantize "
    "wire_dtype grad_dtype communication_dtype communication_data_type reduce_dtype "
    "grad_compression allreduce_dtype",
    "method.bucket_bytes": "bucket_cap_mb bucket_size ddp_bucket_size reduce_bucket_size",
    "method.zero1": "zero zero_1 sharded use_distributed_optimizer",
    "run.steps": "num_steps max_steps total_steps train_steps training_steps train_iters "
    "max_iters iterations",
    "run.rounds": "num_rounds n_rounds outer_steps num_outer_steps",
    "run.tokens": "total_tokens token_budget max_tokens",
    "run.seed": "random_seed rng",
    "model.parameters": "N params num_parameters model_size",
    "model.layer_parameters": "parameters_per_layer params_per_layer layer_sizes layer_params",
    "model.module": "model_class model_fn model_factory architecture",
    "model.loss": "loss_fn loss_function criterion",
    "model.layers": "L num_layers n_layers n_layer depth num_hidden_layers num_decoder_layers",
    "model.active_parameters": "active active_params",
    "model.hidden": "d_model n_embd hidden_size hidden_dim emb_dim dim width",
    "model.heads": "n_head n_heads num_heads num_attention_heads",
    "model.vocabulary": "vocab vocab_size n_vocab",
    "model.feed_forward": "ffn d_ff intermediate_size ffn_hidden_size mlp_dim mlp",
    "model.context": "block_size seq_len sequence_length context_length max_seq_len "
    "max_target_length max_position_embeddings",
    "site": "sites num_sites datacenters regions islands",
    "site.workers": "M num_workers replicas num_replicas num_diloco_replicas "
    "dcn_diloco_parallelism galaxy_size num_learners data_parallel_size dp_size dp_degree "
    "world_size nproc ranks",
    "site.step_time": "T step_seconds compute_time seconds_per_step iteration_time",
    "site.accelerators": "gpu gpus chips devices device tpus",
    "site.memory": "vram hbm gpu_memory device_memory memory_per_gpu memory_per_accelerator",
    "site.sharding": "zero_stage zero_optimization_stage fsdp sharding_strategy",
    "memory.activations": "activation_checkpointing gradient_checkpointing recompute "
    "activation_recomputation recompute_granularity",
    "site.background_slowdown": "side_slowdown",
    "site.mfu": "utilization efficiency",
    "site.n_grad_accumulation": "gradient_accumulation_steps gradient_accumulation grad_accum "
    "grad_accum_steps accumulation_steps accumulate_grad_batches micro_batches num_microbatches",
    "site.batch_tokens": "batch_size tokens_per_step tokens_per_batch global_batch "
    "global_batch_size target_batch_size",
    "site.uplink": "upload up",
    "site.downlink": "ingress download down",
    "site.egress_price": "egress egress_cost egress_fee traffic_price",
    "site.jitter.cv": "std stddev sigma",
    "network.bandwidth": "W bw link_speed throughput rate",
    "network.rtt": "ping round_trip round_trip_time",
    "network.latency": "one_way_delay propagation_delay",
    "network.window": "tcp_window socket_buffer buffer_size wmem rmem bdp",
    "network.streams": "num_streams parallel_streams sockets connections channels "
    "nccl_nsocks_perthread nccl_socket_nthreads",
    "network.background": "background_load background_traffic cross_traffic shared",
    "network.profile": "bandwidth_profile trace_file bandwidth_trace schedule time_varying",
    "network.loss": "packet_loss loss_rate plr",
    "network.collective.algorithm": "topology collective_algorithm algorithm",
    "train.learning_rate": "lr inner_lr peak_lr",
    "train.batch": "batch_size micro_batch_size per_device_batch_size train_batch_size",
    "train.clip_norm": "max_norm max_grad_norm grad_clip clip_grad gradient_clip_val clip",
    "train.warmup_steps": "warmup lr_warmup_steps warmup_iters",
}


def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, words in _WORDS.items():
        for word in words.split():
            found[word] = (*found.get(word, ()), key)
    return found


SYNONYMS: dict[str, tuple[str, ...]] = _by_word()
"""A word -> the keys that it may stand for."""

WRITTEN: dict[str, str] = {
    "method.comm_dtype": '"int8"',
    "method.bucket_bytes": '"25 MiB"',
    "model.parameters": '"7B"',
    "model.layer_parameters": "[1000, 1000]",
    "model.layer_tensors": "[[800, 200], [1000]]",
    "site.step_time": '"2.5 s"',
    "site.accelerators": '"64 x H100"',
    "site.memory": '"80 GB"',
    "site.sharding": '"zero3"',
    "memory.activations": '"recomputed"',
    "site.batch_tokens": '"1Mi"',
    "site.uplink": '"1 Gbit/s"',
    "site.downlink": '"1 Gbit/s"',
    "site.price": '"2.50 USD/h"',
    "site.egress_price": '"90 USD/TB"',
    "site.power": '"700 W"',
    "site.idle_power": '"200 W"',
    "network.bandwidth": '"1 Gbit/s"',
    "network.rtt": '"30 ms"',
    "network.latency": '"15 ms"',
    "network.window": '"4 MB"',
    "network.background": '"30 %"',
}
"""How a value is written, for keys of which other projects write it in another way."""

OR: dict[str, str] = {
    "egress": "the rate of what leaves a site is site.uplink",
}
"""What a word may mean besides, in a few words."""

NOT_LIMITED: dict[str, str] = dict.fromkeys(
    ["budget", "max_budget", "cost", "max_cost", "cost_limit", "max_price", "money"],
    "a run's cost is printed where site.price is given, and cannot be limited",
)
"""Words for what exists in answers alone."""
