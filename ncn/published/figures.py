"""The figures of run 1 of the preprint's repository."""

PUBLISHED_RUN_1 = {"val_loss": 1.5082, "val_ppl": 4.5184, "parameters": 18_007_762}
# Lowest and highest value of each signal on the heatmaps published with it.
PUBLISHED_HEATMAPS = {
    "gain": (0.985, 1.051),
    "precision": (0.675, 0.750),
    "ffn_gate": (0.478, 0.523),
}
