"""Where the pipeline keeps what it makes: the paths of dvc.yaml, each written once.

A run is one arm with one seed.
"""

from pathlib import Path

RAW = Path("data/raw")
TOKENS = Path("data/tokens")
TOKENIZER = TOKENS / "tokenizer"
PUBLISHED_RUN = Path("data/reference/run_1.tsv")
LOCK = Path("requirements.lock")

SUMMARY = Path("metrics/summary.json")
COMPARISON = Path("metrics/compare.json")
CLAIMS = Path("metrics/claims.json")
CONVERGENCE = Path("metrics/convergence.json")
BRAIN_SCAN = Path("metrics/brain_scan.json")
SCAN_TESTS = Path("metrics/brain_scan_tests.json")
SAMPLES = Path("metrics/samples.json")
BENCHMARK = Path("metrics/benchmark.json")  # by `make bench`, not by a stage
BENCHMARK_TABLE = Path("metrics/benchmark.md")
TIMING = Path("metrics/timing.json")

CURVES = Path("plots/curves.tsv")
SCANS = Path("plots/brain_scan/scan.tsv")
SCAN_TABLES = {
    name: Path(f"plots/brain_scan/{name}.tsv") for name in ("tokens", "layers", "losses", "heads")
}
FIGURES = Path("plots/figures")  # NAME.svg and NAME.png
REPORT = Path("plots/report.html")


def run_name(arm: str, seed: int) -> str:
    """How files, stages and charts name a run."""
    return f"{arm}-{seed}"


def model_directory(run: str) -> Path:
    """Weights and configuration of a trained model."""
    return Path("data/models") / run


def training_metrics(run: str) -> Path:
    """Parameters, FLOPs, first and last loss of a training run."""
    return Path("metrics/train") / f"{run}.json"


def training_log(run: str) -> Path:
    """The logged points of a training run, one a line."""
    return Path("plots/train") / f"{run}.tsv"


def evaluation_metrics(run: str) -> Path:
    """Validation loss, leak and yardsticks of a run."""
    return Path("metrics/evaluate") / f"{run}.json"


def sequence_losses(run: str) -> Path:
    """The loss of each validation sequence, one a line."""
    return Path("plots/evaluate") / f"{run}.tsv"


def cluster_losses(run: str) -> Path:
    """The loss of each story (or row, where the split cuts stories apart), one a line."""
    return Path("plots/clusters") / f"{run}.tsv"
