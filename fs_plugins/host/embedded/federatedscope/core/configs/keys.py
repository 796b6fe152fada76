"""The configuration keys of FederatedScope that the embedded host knows.

``HONOURED`` are the keys it acts on, with FederatedScope's defaults.
``SWITCHES`` turn on something that only FederatedScope has: the value given
here, which leaves it off, is accepted and any other is refused.
``DORMANT`` are keys that matter only once such a switch is on, or to parts
of FederatedScope that an LLM experiment doesn't touch; they are accepted and
have no effect, as in FederatedScope.
"""

from typing import Any

HONOURED: dict[str, Any] = {
    "backend": "torch",
    "use_gpu": False,
    "device": -1,
    "verbose": 1,
    "print_decimal_digits": 6,
    "seed": 0,
    "cfg_file": "",
    "outdir": "exp",
    "expname": "",
    "expname_tag": "",
    "distribute": {
        "use": False,
        "server_host": "0.0.0.0",
        "server_port": 50050,
        "client_host": "0.0.0.0",
        "client_port": 50050,
        "role": "client",
        "data_file": "data",
        "data_idx": -1,
        "grpc_max_send_message_length": 300 * 1024 * 1024,
        "grpc_max_receive_message_length": 300 * 1024 * 1024,
        "grpc_enable_http_proxy": False,
        "grpc_compression": "nocompression",
    },
    "federate": {
        "client_num": 0,
        "client_idx_for_local_train": 0,
        "sample_client_num": -1,
        "sample_client_rate": -1.0,
        "total_round_num": 50,
        "mode": "standalone",
        "share_local_model": False,
        "online_aggr": False,
        "make_global_eval": False,
        "method": "FedAvg",
        "ignore_weight": False,
        "restore_from": "",
        "save_to": "",
        "save_freq": -1,
        "save_client_model": False,
        "join_in_info": [],
        "sampler": "uniform",
        "process_num": 1,
    },
    "data": {
        "root": "data",
        "type": "toy",
        "args": [],
        "splitter": "",
        "splitter_args": [],
        "splits": [0.8, 0.1, 0.1],
        "subsample": 1.0,
        "consistent_label_distribution": True,
        "file_path": "",
    },
    "dataloader": {
        "type": "base",
        "batch_size": 64,
        "shuffle": True,
        "num_workers": 0,
        "drop_last": False,
        "pin_memory": False,
    },
    "model": {
        "type": "lr",
        "task": "node",
        "num_labels": 1,
        "model_num_per_trainer": 1,
    },
    "criterion": {"type": "MSELoss"},
    "trainer": {"type": "general"},
    "train": {
        "local_update_steps": 1,
        "batch_or_epoch": "batch",
        "optimizer": {"type": "SGD", "lr": 0.1},
        "scheduler": {"type": "", "warmup_ratio": 0.0},
        "is_enable_half": False,
    },
    "finetune": {
        "before_eval": False,
        "local_update_steps": 1,
        "batch_or_epoch": "epoch",
        "optimizer": {"type": "SGD", "lr": 0.1},
        "scheduler": {"type": "", "warmup_ratio": 0.0},
    },
    "grad": {"grad_clip": -1.0, "grad_accum_count": 1},
    "early_stop": {
        "patience": 5,
        "delta": 0.0,
        "improve_indicator_mode": "best",
    },
    "personalization": {
        "local_param": [],
        "share_non_trainable_para": False,
    },
    "eval": {
        "freq": 1,
        "metrics": [],
        "split": ["test", "val"],
        "report": ["weighted_avg", "avg", "fairness", "raw"],
        "best_res_update_round_wise_key": "val_loss",
    },
    "wandb": {
        "use": False,
        "name_user": "",
        "name_project": "",
        "online_track": True,
        "client_train_info": False,
    },
    "llm": {
        "tok_len": 128,
        "cache": {"model": ""},
        "adapter": {"use": False, "args": [{}]},
    },
}

# Sections in which a user may add keys of their own.
OPEN_SECTIONS = (
    "train.optimizer",
    "train.scheduler",
    "finetune.optimizer",
    "finetune.scheduler",
    "eval",
)

SWITCHES: dict[str, Any] = {
    "check_completeness": False,
    "adapter.use": False,
    "aggregator.robust_rule": "fedavg",
    "asyn.use": False,
    "attack.attack_method": "",
    "data.server_holds_all": False,
    "data.num_of_client_for_data": [],
    "data.transform": [],
    "data.target_transform": [],
    "data.pre_transform": [],
    "eval.monitoring": [],
    "feat_engr.type": "",
    "federate.data_weighted_aggr": False,
    "federate.merge_test_data": False,
    "federate.merge_val_data": False,
    "federate.process_num": 1,
    "federate.resource_info_file": "",
    "federate.sampler": "uniform",
    "federate.unseen_clients_rate": 0.0,
    "federate.use_diff": False,
    "federate.use_ss": False,
    "fedopt.use": False,
    "fedprox.use": False,
    "fedswa.use": False,
    "finetune.freeze_param": "",
    "finetune.simple_tuning": False,
    "hpo.fedex.use": False,
    "hpo.fts.use": False,
    "hpo.pfedhpo.use": False,
    "llm.adapter.mv_to_cpu": False,
    "llm.deepspeed.use": False,
    "llm.offsite_tuning.use": False,
    "llm.retry_on_nan_loss": False,
    "llm.offsite_tuning.emu_align.use": False,
    "model.model_num_per_trainer": 1,
    "nbafl.use": False,
    "quantization.method": "none",
    "regularizer.type": "",
    "sgdmf.use": False,
    "train.data_para_dids": [],
    "vertical.use": False,
    "backend": "torch",
    "dataloader.type": "base",
}

# Names in sections that have keys in HONOURED, too.
_DORMANT_NAMES = {
    "data": (
        "save_data cSBM_phi val_transform val_target_transform "
        "val_pre_transform test_transform test_target_transform "
        "test_pre_transform quadratic hetero_data_name max_seq_len "
        "max_tgt_len max_query_len trunc_stride cache_dir "
        "hetero_synth_batch_size hetero_synth_prim_weight "
        "hetero_synth_feat_dim num_contrast is_debug loader batch_size "
        "shuffle num_workers drop_last walk_length num_steps sizes"
    ),
    "dataloader": ("walk_length num_steps sizes theta"),
    "finetune": ("epoch_linear lr_linear weight_decay local_param"),
    "model": (
        "use_bias hidden dropout in_channels out_channels layer "
        "graph_pooling embed_size num_item num_user input_shape lambda_ "
        "gamma num_of_trees max_tree_depth stage model_type "
        "pretrain_tasks downstream_tasks max_length min_length "
        "no_repeat_ngram_size length_penalty num_beams label_smoothing "
        "n_best_size max_answer_len null_score_diff_threshold "
        "use_contrastive_loss contrast_topk contrast_temp"
    ),
    "personalization": (
        "local_update_steps regular_weight lr K beta lr_feature lr_linear "
        "epoch_feature epoch_linear weight_decay"
    ),
    "trainer": ("sam local_entropy disp_freq val_freq"),
}
DORMANT = (
    "adapter",
    "aggregator",
    "asyn",
    "attack",
    "eval.count_flops",
    "feat_engr",
    "federate.atc_load_from",
    "federate.atc_vanilla",
    "federate.master_addr",
    "federate.master_port",
    "fedopt",
    "fedprox",
    "fedsageplus",
    "fedswa",
    "flitplus",
    "gcflplus",
    "hpo",
    "llm.chat",
    "llm.deepspeed",
    "llm.offsite_tuning",
    "nbafl",
    "quantization",
    "regularizer",
    "sgdmf",
    "vertical",
    *(
        f"{section}.{name}"
        for section, names in _DORMANT_NAMES.items()
        for name in names.split()
    ),
)
