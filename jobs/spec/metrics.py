"""The metrics that a job's evaluation gives, by name: what it may be gated by, and chosen by."""

from jobs.spec.job import Evaluation, JobSpec, Regression

LOSSES = ("loss", "perplexity")

# What every answer is judged by, whatever else a recipe asks for.
ANSWERS = (
    "exact_match",
    "json_parse_rate",
    "json_citation_rate",
    "citation_coverage",
    "refusal_precision",
    "refusal_recall",
    "cited_ids_exist",
    "hallucination_rate",
)
SCHEMA = "schema_valid_rate"

TIER_RECALL = "tier_recall/"


def metrics_of(job: JobSpec) -> tuple[str, ...]:
    """Those with a name that is known before the job runs; what the user's own functions give is
    named after them, see `is_own`."""
    if job.regression is not None:
        return ("loss", *of_scores(job.regression))
    return (*LOSSES, *(of_answers(job.eval) if job.eval.generate else ()))


def choosable(job: JobSpec) -> tuple[str, ...]:
    """What the best epoch may be chosen by (`train.select_by`), the user's own functions aside."""
    if job.regression is None:
        return ("loss", *of_answers(job.eval))
    # the rows of an epoch may have none of a tier, and so no recall of it
    scores = (name for name in of_scores(job.regression) if not name.startswith(TIER_RECALL))
    return ("loss", *scores)


def exported(job: JobSpec) -> tuple[str, ...]:
    """What a GGUF file is measured by, the user's own functions aside: `perplexity_change` against
    f16, `agreement` with the tuned model's own answers."""
    return (*LOSSES, *of_answers(job.eval), "perplexity_change", "agreement")


def of_answers(settings: Evaluation) -> tuple[str, ...]:
    """What written answers are judged by, the user's own functions aside."""
    return (*ANSWERS, SCHEMA) if settings.schema is not None else ANSWERS


def of_scores(asked: Regression) -> tuple[str, ...]:
    """What predicted scores are judged by."""
    errors = ("mae", "rmse")
    by_dimension = (f"{error}/{name}" for error in errors for name in asked.dimensions)
    if not asked.tiers:
        return (*errors, *by_dimension)
    recalls = (f"{TIER_RECALL}{tier.name}" for tier in asked.tiers)
    return (*errors, *by_dimension, "tier_accuracy", "minority_recall", *recalls)


def own_functions(settings: Evaluation) -> tuple[str, ...]:
    """Names of the user's functions, without their files."""
    return tuple(entry.rpartition(":")[2] for entry in settings.metrics)


def is_own(metric: str, settings: Evaluation) -> bool:
    """Whether a function of the user's may give it: `tone` gives `tone`, or `tone/` and any key."""
    return metric.partition("/")[0] in own_functions(settings)
