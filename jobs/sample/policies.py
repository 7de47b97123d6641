"""What the sample task is made of: policies to learn, topics to refuse, ways to ask.

An invented company's handbook. Each policy has an id, one fact, and names people use for it.
"""

from typing import NamedTuple


class Policy(NamedTuple):
    id: str
    fact: str
    names: tuple[str, ...]


POLICIES = (
    Policy("POL-01", "25 days", ("annual leave", "vacation")),
    Policy("POL-02", "3 days a week", ("remote work", "telework")),
    Policy("POL-03", "40 euros", ("meals", "restaurants")),
    Policy("POL-04", "economy class", ("flights", "plane tickets")),
    Policy("POL-05", "every 90 days", ("passwords", "passphrases")),
    Policy("POL-06", "within a month", ("expenses", "receipts")),
    Policy("POL-07", "16 weeks", ("parental leave", "newborns")),
    Policy("POL-08", "call by 10", ("sick notes", "illness")),
    Policy("POL-09", "4 weeks of notice", ("resigning", "quitting")),
    Policy("POL-10", "1200 euros", ("training courses", "conferences")),
    Policy("POL-11", "never shared", ("accounts", "logins")),
    Policy("POL-12", "up to 50 euros", ("gifts", "presents")),
    Policy("POL-13", "wear a badge", ("visitors", "guests")),
    Policy("POL-14", "keep 7 years", ("invoices", "bills")),
    Policy("POL-15", "encrypted only", ("laptops", "hard drives")),
    Policy("POL-16", "double pay", ("weekend shifts", "Sundays")),
    Policy("POL-17", "report in 24 hours", ("breaches", "leaks")),
    Policy("POL-18", "two approvals", ("code review", "merges")),
    Policy("POL-19", "floor 2 only", ("dogs", "pets")),
    Policy("POL-20", "30 cents a mile", ("mileage", "private cars")),
)

OFF_TOPIC = (
    "baking bread",
    "the weather",
    "Peru",
    "football",
    "tomatoes",
    "chess",
    "guitars",
    "the moon",
    "castles",
    "poetry",
    "coffee",
    "marathons",
    "horror films",
    "roses",
    "bicycles",
    "jazz",
    "volcanoes",
    "dinosaurs",
    "pizza",
    "yoga",
)

# A name always stands inside the sentence, so that it is always written the same way.
TRAIN_CARRIERS = (
    "What is the rule on {}?",
    "What is the policy for {}?",
    "What does the handbook say about {}?",
    "What do we say about {}?",
    "What should I know about {}?",
    "What are the details of {}?",
    "What about {}?",
    "Tell me about {}.",
    "Tell me the rule for {}.",
    "Tell us what you know on {}, please.",
    "How does {} work here?",
    "How do we treat {}?",
    "How about {}, please?",
    "I have a question about {}.",
    "I want to ask about {}.",
    "I need help with {}.",
    "I must know the details on {}.",
    "Which policy covers {}?",
    "Which rule is for {}?",
    "Can you explain {} to me?",
    "Can you help me with {}?",
    "Could you look up {} for me?",
    "Please look up {}.",
    "Please explain the policy on {}.",
    "Is there a limit for {}?",
    "Is there a rule about {}?",
    "Is {} in the handbook?",
    "Give me the policy for {}.",
    "Give us the details on {}.",
    "My manager asked about {}.",
    "Someone asked me for the limit on {}.",
    "Do we have a policy on {}?",
    "Do you know about {}?",
    "Hello, what is our limit on {}?",
    "Hello, I am new, how does {} work?",
    "Hello, can I ask about {}?",
    "About {}, what do you know?",
    "For {}, what is the rule?",
    "On {}, please help me.",
    "We have a question on {}.",
    "What do we know about {}?",
    "Please tell us about {}.",
)

VALIDATION_CARRIERS = (
    "What is our policy on {}?",
    "Hello, what is the rule about {}?",
    "Someone asked me to explain {}.",
    "I need the details of {}.",
    "How do you treat {}?",
    "Please tell me what we know about {}.",
    "Can you look up the limit for {}?",
    "Do we have a rule for {}?",
)
