"""Dialogues of our own: two people tell each other what they did, and questions ask for single turns of it.

They are there for learning: what is measured with is by others (LoCoMo).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NAMES = (
    "Ada",
    "Ben",
    "Clara",
    "Dan",
    "Elif",
    "Femi",
    "Greta",
    "Hugo",
    "Ines",
    "Jamal",
    "Kaya",
    "Lena",
    "Milo",
    "Nora",
)
# (what is said, what is asked for it); {n} is who says it, {o} the other one, {x} is drawn for each dialogue.
FACTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("We finally adopted a {x} from the shelter!", "What pet did {n} adopt?", ("cat", "beagle", "rabbit", "parrot")),
    (
        "I signed up for a {x} class, first lesson is Tuesday.",
        "What class has {n} joined?",
        ("pottery", "salsa", "judo"),
    ),
    (
        "My sister moved to {x} for her new job.",
        "Where does {n}'s sister live now?",
        ("Lisbon", "Oslo", "Denver", "Kyoto"),
    ),
    (
        "I've been baking {x} every weekend lately.",
        "What does {n} like to bake?",
        ("sourdough", "lemon tarts", "brownies"),
    ),
    (
        "The doctor says it is {x}, so no running for a while.",
        "Why did {n} stop running?",
        ("a torn ligament", "asthma"),
    ),
    ("I quit at the {x} last Friday, it was time.", "When did {n} leave the old job?", ("bank", "bakery", "law firm")),
    (
        "Just got back from hiking in {x}, my legs are done.",
        "Where did {n} go hiking?",
        ("the Alps", "Wales", "Yosemite"),
    ),
    (
        "I painted {x} over the holidays, first time in years.",
        "What has {n} painted?",
        ("a harbour", "my grandma", "sunflowers"),
    ),
    (
        "My grandmother gave me {x} before she passed.",
        "What did {n} inherit?",
        ("a brass compass", "her ring", "a quilt"),
    ),
    (
        "I'm reading {x} right now and cannot put it down.",
        "Which book is {n} reading?",
        ("Dune", "Middlemarch", "Emma"),
    ),
    (
        "Our band plays {x} at the fair next month.",
        "What kind of music does {n}'s band play?",
        ("folk", "jazz", "punk"),
    ),
    (
        "I volunteer at the {x} on Saturdays now.",
        "Where does {n} volunteer?",
        ("food bank", "animal shelter", "library"),
    ),
    ("The twins turned {x} yesterday, we had a bouncy castle.", "How old are {n}'s children?", ("four", "six", "nine")),
    (
        "I want to open a {x} one day, honestly.",
        "What is {n}'s dream for the future?",
        ("bookshop", "cafe", "dance studio"),
    ),
    ("We planted {x} behind the house.", "What grows in {n}'s garden?", ("tomatoes", "cherry trees", "lavender")),
    (
        "When I am stressed I just go {x}.",
        "How does {n} relax after a hard day?",
        ("swimming", "for a drive", "birdwatching"),
    ),
    (
        "My car broke down near {x}, had to be towed.",
        "What happened to {n}'s car?",
        ("the lake", "Leeds", "the airport"),
    ),
    (
        "I won {x} at the school fair, can you believe it?",
        "What prize did {n} get?",
        ("a bike", "a huge teddy", "a ham"),
    ),
    ("Mum is coming to stay for {x}.", "How long will {n}'s mother visit?", ("two weeks", "a month", "the weekend")),
    ("Started learning {x} with an app.", "Which language is {n} studying?", ("Welsh", "Turkish", "Korean")),
    ("I'm allergic to {x}, so I'll skip dessert.", "What food can {n} not eat?", ("nuts", "shellfish", "strawberries")),
    ("We named the baby {x}, after my uncle.", "What is the name of {n}'s baby?", ("Tobias", "Ruth", "Alma", "Oskar")),
    (
        "I ran the {x} for charity and raised quite a bit.",
        "Which event did {n} take part in?",
        ("half marathon", "fun run"),
    ),
    (
        "My roommate and I argued about {x} again.",
        "What did {n} fight about with the roommate?",
        ("dishes", "rent", "noise"),
    ),
    ("I broke my {x} skating.", "What injury did {n} have?", ("wrist", "ankle", "collarbone")),
    (
        "The interview at the {x} went really well.",
        "Where did {n} apply for a job?",
        ("museum", "hospital", "radio station"),
    ),
    ("I collect {x}, have hundreds of them.", "What does {n} collect?", ("stamps", "old maps", "vinyl records")),
    ("We got engaged in {x}!", "Where did {n}'s partner propose?", ("Venice", "the park", "Marrakesh")),
    (
        "My son built {x} for the science fair.",
        "What did {n}'s son make for school?",
        ("a volcano", "a robot arm", "a weather station"),
    ),
    (
        "I had {x} for dinner with my mentor on Monday.",
        "Who did {n} eat with at the start of the week?",
        ("ramen", "tapas"),
    ),
    ("The trip to {x} is booked for July.", "What are {n}'s plans for the summer?", ("Crete", "Iceland", "Peru")),
    (
        "I gave the talk about {x} in front of two hundred people.",
        "What did {n} speak about in public?",
        ("bees", "housing"),
    ),
    (
        "My favourite gift was {x} from my brother.",
        "What did {n} receive from family?",
        ("a camera", "a chess set", "boots"),
    ),
    (
        "I've decided to study {x} after all.",
        "What subject will {n} pursue in education?",
        ("nursing", "law", "geology"),
    ),
    ("Yoga keeps me calm, and {x} too.", "What helps {n} with anxiety?", ("journaling", "long walks", "tea")),
    (
        "That storm ruined the {x}, we are still cleaning up.",
        "What damage did the weather do at {n}'s place?",
        ("roof", "shed"),
    ),
    (
        "I met my best friend at {x} ten years ago.",
        "How did {n} meet the best friend?",
        ("choir", "summer camp", "university"),
    ),
    (
        "We watched {x} with the kids, they loved it.",
        "Which film did {n}'s family see?",
        ("Totoro", "Up", "Paddington"),
    ),
    ("Lost my {x} on the train, no luck at the office.", "What did {n} lose?", ("wallet", "umbrella", "headphones")),
    (
        "I bought a {x} with my first salary.",
        "What did {n} buy with the money from work?",
        ("guitar", "sofa", "telescope"),
    ),
)
CHAT = (
    "Wow, that sounds amazing, {o}!",
    "Hey {o}, long time no see! How have you been?",
    "Thanks so much, that means a lot to me.",
    "Haha, I can imagine. Tell me more!",
    "That must have been hard. I'm here if you need me.",
    "Absolutely, we should do that together some time.",
    "How did it go?",
    "What made you decide that, {o}?",
    "Take care, talk soon!",
    "That's so cool! Do you have pictures?",
    "I know what you mean, it takes a lot of courage.",
    "Good luck, {o}, you've got this!",
    "What kind of pet would you want?",
    "Are you reading anything good at the moment?",
    "Where do you like to go on holiday?",
    "So what are your plans for the weekend?",
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the place of the turn that answers it."""

    text: str
    turn: int


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What two people said, each turn with its speaker's name before it."""

    turns: tuple[str, ...]
    questions: tuple[Question, ...]


def dialogues(count: int, seed: int = 0) -> list[Dialogue]:
    """Each of some twenty facts among as much chat."""
    random = np.random.default_rng(seed)
    return [_dialogue(random) for _ in range(count)]


def _dialogue(random: np.random.Generator) -> Dialogue:
    pair = [NAMES[i] for i in random.choice(len(NAMES), 2, replace=False)]
    turns, questions = list[str](), list[Question]()
    for number in random.choice(len(FACTS), len(FACTS) // 2, replace=False).tolist():
        said, asked, fillers = FACTS[number]
        who = int(random.integers(2))
        name, other = pair[who], pair[1 - who]
        questions.append(Question(asked.format(n=name), len(turns)))
        turns.append(f"{name}: {said.format(x=fillers[int(random.integers(len(fillers)))])}")
        turns.append(f"{other}: {CHAT[int(random.integers(len(CHAT)))].format(o=name)}")
        if random.random() < 0.5:
            turns.append(f"{name}: {CHAT[int(random.integers(len(CHAT)))].format(o=other)}")
    return Dialogue(tuple(turns), tuple(questions))
