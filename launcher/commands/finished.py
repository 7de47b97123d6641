"""What a finished run's model is used for."""

from typing import Any

import click

from launcher.commands.options import JSON_FLAG, publish_flags
from launcher.commands.output import ending_with, say, transfers_shown, write_json


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--to",
    "targets",
    multiple=True,
    required=True,
    metavar="TARGET",
    help="merged, gguf:TYPE or ollama[:TYPE]; TYPE is f16, q8_0, q5_k_m, q4_k_m or q3_k_m.",
)
@click.option("--gate", "gates", multiple=True, metavar="METRIC>=X", help="Besides the run's own.")
@click.option("--rows", metavar="FILE", help="Measure on these, not the run's validation rows.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Ask N questions at most.")
@click.option("--name", help="Of the files, and of the model in Ollama.  [default: the run's id]")
@click.option("--out", metavar="DIR", help="Where it goes.  [default: RUN.export beside the run]")
@click.option("--python", metavar="PATH", help="Interpreter of a training environment to use.")
@JSON_FLAG
def export(run: str, as_json: bool, **given: Any) -> None:
    """Merge, convert and quantise a run's model; ship the files that pass its gates.

    RUN is a run's id or a collected run's folder. Every GGUF file is measured itself, through
    llama.cpp: perplexity, the run's metrics, speed. One that fails a gate is kept as *.rejected.
    """
    from launcher.display.exports import export_text
    from launcher.running.exporting import ExportFlags
    from launcher.running.exporting import export as ship

    code, result = ship(run, ExportFlags(**given), say)
    with ending_with(code):
        if as_json:
            write_json(result)
        else:
            click.echo(export_text(result), nl=False)
        for measured in result.rejected:
            say(f"not shipped: {measured.file} failed its gates")


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("file", metavar="FILE")
@click.option("--out", metavar="FILE", help="Where the scores go.  [default: stdout]")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Texts at once.")
@click.option("--device", metavar="cuda|mps|cpu", help="Elsewhere than the run was trained on.")
@click.option("--python", metavar="PATH", help="Interpreter of a training environment to use.")
@JSON_FLAG
def predict(run: str, file: str, as_json: bool, **given: Any) -> None:
    """Score new texts with a trained student, as JSON lines; say how fast.

    RUN is a run's id or a collected run's folder, of task regression.
    """
    from launcher.errors import BadInput
    from launcher.running.predicting import PredictFlags
    from launcher.running.predicting import predict as score

    flags = PredictFlags(**given)
    if as_json and flags.out is None:
        raise BadInput("--json prints what was measured: give --out FILE for the scores")
    code, summary = score(run, file, flags, say)
    with ending_with(code):
        if as_json and summary is not None:
            write_json(summary)


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--hub", required=True, metavar="ORG/NAME", help="The model repository.")
@publish_flags
@click.option("--force", is_flag=True, help="Although its gates failed; the card says so first.")
@click.option("--with-export", is_flag=True, help="What `launch export` made and let pass, too.")
@JSON_FLAG
@transfers_shown()
def publish(run: str, hub: str, as_json: bool, **given: Any) -> None:
    """Publish a run's adapter on the Hugging Face Hub, with a model card.

    RUN is a run's id or a collected run's folder. HF_TOKEN must be able to write there. What is
    there already is not sent again, and what arrived is checked by hash.
    """
    from launcher import api
    from launcher.running.publishing import PublishFlags

    published = api.publish(run, hub, PublishFlags(**given))
    if as_json:
        write_json(published)
    else:
        click.echo(published.line)
