"""The sample job's adapter on questions that nobody looked at while it was tuned.

The sample's design was chosen by looking at its validation rows, so what it reaches there is
optimistic. These carriers and these topics to refuse were written afterwards and used once.
Run in the training environment, from the repository's folder:
    PYTHONPATH=. python -P -m benchmarks.sample_unseen runs/RUN
"""

import random
import sys
from pathlib import Path

from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

from jobs import layout, metrics
from jobs.encode import Question
from jobs.evaluate import generate
from jobs.sample.make import answer
from jobs.sample.policies import OFF_TOPIC, POLICIES
from jobs.spec import ResolvedEvaluation

CARRIERS = (
    "Which limit is there for {}?",
    "Tell me what we say on {}.",
    "Hello, I need to know the policy about {}.",
    "My manager asked me to look up {}.",
    "Can you give us the details on {}?",
    "What do you know about {}, please?",
)
UNSEEN_OFF_TOPIC = ("novels", "rivers", "cheese", "opera", "comets", "whales")


def main(run: Path) -> None:
    model = AutoPeftModelForCausalLM.from_pretrained(run / layout.ADAPTER)
    tokenizer = AutoTokenizer.from_pretrained(run / layout.ADAPTER)
    rng = random.Random(0)
    names = [(name, answer(p.fact, p.id)) for p in POLICIES for name in p.names]
    refused = answer(None, None)
    sets = {
        "policies, and topics refused in training": names + [(t, refused) for t in OFF_TOPIC],
        "topics never refused in training": [(t, refused) for t in UNSEEN_OFF_TOPIC],
    }
    for title, asked in sets.items():
        pairs = [(c.format(name), reply) for c in CARRIERS for name, reply in asked]
        rng.shuffle(pairs)
        questions = [Question(text, chat(tokenizer, text), "", True) for text, _ in pairs]
        settings = ResolvedEvaluation(max_new_tokens=32, batch=64)
        answers = dict(generate(model, tokenizer, questions, settings))
        found = metrics.score([answers[i] for i in range(len(pairs))], [r for _, r in pairs])
        shown = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        print(f"{title} ({len(pairs)} questions): {shown}")


def chat(tokenizer, text: str) -> str:
    messages = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
