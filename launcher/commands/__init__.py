"""The commands beside the main one, each with what `launch --help` says of it: in 80 columns click
cuts what is longer than 50 characters or so."""

from launcher.commands.canary import canary
from launcher.commands.finished import export, predict, publish
from launcher.commands.images import images
from launcher.commands.planning import doctor, estimate, offers
from launcher.commands.runs import adopt, cancel, collect, guard, logs, report, runs, status

ALL = {
    adopt: "Take the runs of a store into this ledger.",
    canary: "Prove a provider with the sample job.",
    cancel: "End a run; its job writes its result first.",
    collect: "Bring an ended run's files home.",
    doctor: "What is here to plan and train with, what lacks.",
    estimate: "A job's memory, time and dollars, term by term.",
    export: "Merge, convert, quantise and judge a run's model.",
    guard: "Hold every run's cap from here, fetch what ended.",
    images: "Build, push and check the training image.",
    logs: "What the job printed.",
    offers: "What can be had, here and by the dated catalog.",
    predict: "Score new texts with a trained student.",
    publish: "Publish an adapter on the Hugging Face Hub.",
    report: "One run, several side by side, or all of them.",
    runs: "All runs, newest first.",
    status: "A run's state, its last step, what it has cost.",
}
