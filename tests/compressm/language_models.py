"""Small language models of transformers with selective layers, hybrids included."""

import torch

N = 16
HEADS = {"mamba_n_heads": 4, "mamba_d_head": 4, "mamba_n_groups": 2, "mamba_d_state": N}
ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 16}
EXPERTS = {"num_experts_per_tok": 1, "num_hidden_layers": 3}
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": N,
    "linear_value_head_dim": 4, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
FAMILIES = {
    "Mamba": {"state_size": N},
    "FalconMamba": {"state_size": N},
    "Mamba2": {"state_size": N, "num_heads": 4, "head_dim": 4, "n_groups": 2},
    "Jamba": {
        "mamba_d_state": N, "mamba_dt_rank": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
        "num_experts": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
        "use_mamba_kernels": False, **ATTENTION, **EXPERTS,
    },
    "Bamba": {"mamba_expand": 2, "attn_layer_indices": [1], "num_hidden_layers": 3,
              **HEADS, **ATTENTION},
    "NemotronH": {
        "hybrid_override_pattern": "M*M-", "mamba_num_heads": 4, "mamba_head_dim": 4,
        "ssm_state_size": N, "n_groups": 2, "head_dim": 4, "num_hidden_layers": 4, **ATTENTION,
    },
    "GraniteMoeHybrid": {
        "mamba_expand": 2, "layer_types": ["mamba", "attention", "mamba"],
        "shared_intermediate_size": 16, "num_local_experts": 2, **HEADS, **ATTENTION, **EXPERTS,
    },
    "Zamba2": {
        "mamba_d_state": N, "n_mamba_heads": 4, "mamba_ngroups": 1, "attention_head_dim": 8,
        "layers_block_type": ["mamba", "hybrid"], "adapter_rank": 2, **ATTENTION,
    },
    "FalconH1": {"mamba_d_ssm": 16, "num_hidden_layers": 2, "head_dim": 4, **HEADS, **ATTENTION},
    "Qwen3Next": {
        "num_experts": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8,
        "head_dim": 8, **DELTA, **ATTENTION, **EXPERTS, "num_hidden_layers": 2,
    },
    "OlmoHybrid": {"head_dim": 4, **DELTA, **ATTENTION},
}  # fmt: skip


def language_model(family, **options):
    import transformers  # takes seconds

    sizes = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "pad_token_id": 0}
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(**sizes | ends | FAMILIES[family] | options)
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def tokens(sequences=16, length=24):
    return torch.randint(0, 11, (sequences, length), generator=torch.Generator().manual_seed(0))
