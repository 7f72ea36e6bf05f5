"""Where the pipeline keeps what it makes: the paths of dvc.yaml, each written once.

A run is one arm with one seed.
"""

from pathlib import Path

RAW = Path("data/raw")
TOKENS = Path("data/tokens")
YARDSTICKS = Path("data/yardsticks.json")
MODELS = Path("data/models")
SCORED = Path("data/scores")
ADAPTED = Path("data/adapted")
TUNED = Path("data/tuning")
TOKENIZER = TOKENS / "tokenizer"
PUBLISHED_RUN = Path("data/reference/run_1.tsv")
STUDIES = Path("studies")  # NAME/SIZE/ holds what git keeps of a run, once it is frozen
REQUIREMENTS = Path("requirements.lock")

RESULTS = ("params.yaml", "dvc.lock", "metrics", "plots")  # what git keeps of a run

SUMMARY = Path("metrics/summary.json")
COMPARISON = Path("metrics/compare.json")
TUNING = Path("metrics/tuning.json")
CLAIMS = Path("metrics/claims.json")
ROBUSTNESS = Path("metrics/robustness.json")
CONVERGENCE = Path("metrics/convergence.json")
SCALING = Path("metrics/scaling.json")
BRAIN_SCAN = Path("metrics/brain_scan.json")
SCAN_TESTS = Path("metrics/brain_scan_tests.json")
CONDITIONAL = Path("metrics/conditional.json")
SAMPLES = Path("metrics/samples.json")
ADAPTATION = Path("metrics/adaptation.json")
BENCHMARK = Path("metrics/benchmark.json")  # by `make bench`, not by a stage
BENCHMARK_TABLE = Path("metrics/benchmark.md")
GPU_BENCHMARK = Path("metrics/benchmark_gpu.json")  # likewise, where there is a GPU
GPU_BENCHMARK_TABLE = Path("metrics/benchmark_gpu.md")
TIMING = Path("metrics/timing.json")

DIFFERENCES = Path("plots/differences.tsv")
TRIALS = Path("plots/tuning.tsv")
CURVES = Path("plots/curves.tsv")
SCALING_TABLE = Path("plots/scaling.tsv")
SCANS = Path("plots/brain_scan/scan.tsv")
SCAN_TABLES = {
    name: Path(f"plots/brain_scan/{name}.tsv") for name in ("tokens", "layers", "losses", "heads")
}
CONDITIONAL_TABLE = Path("plots/conditional.tsv")
FIGURES = Path("plots/figures")  # NAME.svg and NAME.png
REPORT = Path("plots/report.html")


def run_name(arm: str, seed: int) -> str:
    """How files, stages and charts name a run."""
    return f"{arm}-{seed}"


def model_directory(run: str) -> Path:
    """What training leaves: the model, and `TRAINING` and `LOG` beside it."""
    return MODELS / run


def tuning_directory(arm: str) -> Path:
    """What tuning leaves: `CHOSEN` and `GRID`."""
    return TUNED / arm


def scores_directory(run: str) -> Path:
    """What scoring leaves: `SCORES`, `SEQUENCES` and `CLUSTERS`."""
    return SCORED / run


def adapted_name(arm: str, method: str) -> str:
    """How the models of an arm are named that were trained again by a method."""
    return f"{arm}-{method}"


def adapted_directory(run: str) -> Path:
    """What a second phase of training leaves: the model, and `ADAPTED_LOSSES` and `LOG`."""
    return ADAPTED / run


# Files of these folders. DVC keeps the folders, so that a run comes back from its cache whole; what
# people read of them `ncn.analysis.records` copies to metrics/ and plots/, which git keeps.
TRAINING = "training.json"  # parameters, FLOPs, first and last loss
LOG = "log.tsv"  # the logged points, one a line
CHOSEN = "chosen.json"  # an arm's learning rate, and what it was chosen from
GRID = "grid.tsv"  # the trials, one a line
SCORES = "scores.json"  # validation loss, leak, yardsticks, probes, questions
SEQUENCES = "sequences.tsv"  # the loss of each validation sequence, one a line
ADAPTED_LOSSES = "adapted.json"  # on both texts, before and after
CLUSTERS = "clusters.tsv"  # of each story (or row, where the split cuts stories apart), one a line

TRAINING_COPIES = Path("metrics/train")
LOG_COPIES = Path("plots/train")  # and the growing logs of runs that train
SCORES_COPIES = Path("metrics/evaluate")

# The folders that hold something of each run or arm: as DVC caches it, and as git keeps it.
CACHED_RUNS = (MODELS, SCORED, TUNED)
COPIED_RUNS = (TRAINING_COPIES, LOG_COPIES, SCORES_COPIES)


def training_metrics(run: str) -> Path:
    """The copy of a run's `TRAINING`."""
    return TRAINING_COPIES / f"{run}.json"


def training_log(run: str) -> Path:
    """The copy of a run's `LOG`; while it trains, its log so far."""
    return LOG_COPIES / f"{run}.tsv"


def evaluation_metrics(run: str) -> Path:
    """The copy of a run's `SCORES`."""
    return SCORES_COPIES / f"{run}.json"


def sequence_losses(run: str) -> Path:
    """A run's `SEQUENCES`."""
    return scores_directory(run) / SEQUENCES


def cluster_losses(run: str) -> Path:
    """A run's `CLUSTERS`."""
    return scores_directory(run) / CLUSTERS
