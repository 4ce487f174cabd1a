"""Letters of the papers and words of other projects, and what we call the same thing.

Read only to make an error more helpful: a key is never accepted under another name.
"""

from __future__ import annotations

_WORDS = {
    "method.sync_every": "H h K inner_steps local_steps num_inner_steps num_local_steps "
    "sync_interval sync_steps outer_every communication_interval",
    "method.num_fragments": "P p fragments n_fragments partitions",
    "method.fragment_sync_delay": "tau delay overlap_steps sync_delay num_delay_steps",
    "method.fragment_update_alpha": "alpha mixing mixing_factor merge_alpha",
    "method.outer_lr": "outer_learning_rate lr_outer server_lr",
    "method.outer_momentum": "beta mu",
    "method.use_nesterov": "nesterov outer_nesterov",
    "method.comm_dtype": "precision compression quantization quantisation should_quantize "
    "wire_dtype grad_dtype communication_dtype",
    "method.bucket_bytes": "bucket_cap_mb bucket_size",
    "method.zero1": "zero zero_1 sharded",
    "run.steps": "num_steps max_steps total_steps train_steps",
    "run.tokens": "total_tokens token_budget max_tokens",
    "run.seed": "random_seed rng",
    "model.parameters": "N params num_parameters model_size",
    "model.layer_parameters": "parameters_per_layer params_per_layer layer_sizes layer_params",
    "model.module": "model_class model_fn model_factory architecture",
    "model.loss": "loss_fn loss_function criterion",
    "model.layers": "L num_layers n_layers n_layer depth",
    "model.active_parameters": "active active_params",
    "model.hidden": "d_model n_embd hidden_size dim width",
    "model.heads": "n_head n_heads num_heads",
    "model.vocabulary": "vocab vocab_size n_vocab",
    "model.feed_forward": "ffn d_ff intermediate_size mlp",
    "model.context": "block_size seq_len sequence_length context_length",
    "site": "sites num_sites datacenters regions islands",
    "site.workers": "M num_workers replicas world_size nproc ranks",
    "site.step_time": "T step_seconds compute_time seconds_per_step iteration_time",
    "site.accelerators": "gpu gpus chips devices device tpus",
    "site.mfu": "utilization efficiency",
    "site.n_grad_accumulation": "gradient_accumulation_steps grad_accum accumulation_steps "
    "micro_batches",
    "site.batch_tokens": "batch_size tokens_per_step tokens_per_batch global_batch",
    "site.uplink": "egress upload up",
    "site.downlink": "ingress download down",
    "site.jitter.cv": "std stddev sigma",
    "network.bandwidth": "W bw link_speed throughput rate",
    "network.rtt": "ping round_trip round_trip_time",
    "network.latency": "one_way_delay propagation_delay",
    "network.window": "tcp_window socket_buffer buffer_size wmem rmem bdp",
    "network.streams": "num_streams parallel_streams sockets connections channels "
    "nccl_nsocks_perthread nccl_socket_nthreads",
    "network.loss": "packet_loss loss_rate plr",
    "network.collective.algorithm": "topology collective_algorithm",
    "train.learning_rate": "lr",
    "train.clip_norm": "max_norm grad_clip clip",
    "train.warmup_steps": "warmup",
}

SYNONYMS: dict[str, str] = {word: key for key, words in _WORDS.items() for word in words.split()}
