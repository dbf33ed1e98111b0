"""A small synthetic world of words, whose text holds skills that can be tested one by one and exactly.

A seed determines a world: who lives where, and which combinations of words never occur in any text. What a model does
with those it cannot have memorised. There are three kinds of text:

    prose         3 + 4 = 7 . anna lives in oslo . copy cat oslo : cat oslo .     statements about a few things
    questions     what is 3 + 4 ? where does anna live ?                          without answers
    interviews    ask what is 3 + 4 ? say 7 . ask where does anna live ? say oslo .

and six skills, each a sentence whose end (here in brackets) follows from its beginning:

    agreement            the cat near the dogs [sees] the bird .            two nouns that never met
    facts                anna lives in [oslo] . the home of anna is [oslo] .    people never met in the second form
    facts turned round   in oslo lives [anna] .                             people never met in this form
    arithmetic           3 + 4 = [7] .                                      two numbers that never met
    copying              copy cat anna oslo : [cat anna oslo] .               lists that begin with a pair never met
    translation          red cat sees dog in swedish : [röd katt ser hund] .   an adjective and a noun never met

On the right is what is held out: every word was met, the combination was not. Swedish is also there by itself ("röd
katt ser hund .").

Sources: Linzen et al. 2016, nouns in between (agreement); Berglund et al. 2023, facts turned round ("the reversal
curse"); Lake and Baroni 2018, combinations held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product
from random import Random

import torch
from torch import Tensor

from ..checks import check_int
from ..data.special_ids import SpecialIds
from ..errors import InputError

Words = tuple[str, ...]


def _words(text: str) -> Words:
    return tuple(text.split())


NOUNS = (
    *(("cat", "cats", "katt"), ("dog", "dogs", "hund"), ("bird", "birds", "fågel"), ("horse", "horses", "häst")),
    *(("cow", "cows", "ko"), ("pig", "pigs", "gris"), ("bear", "bears", "björn"), ("wolf", "wolves", "varg")),
    *(("goat", "goats", "get"), ("frog", "frogs", "groda")),
)
"""One, several, in Swedish."""
VERBS = (
    *(("sees", "see", "ser"), ("hears", "hear", "hör"), ("likes", "like", "gillar"), ("finds", "find", "hittar")),
    *(("helps", "help", "hjälper"), ("follows", "follow", "följer"), ("knows", "know", "känner")),
    *(("loves", "love", "älskar"),),
)
"""Of one, of several, in Swedish."""
ADJECTIVES = (
    *(("red", "röd"), ("blue", "blå"), ("green", "grön"), ("black", "svart"), ("white", "vit")),
    *(("small", "liten"), ("big", "stor"), ("old", "gammal")),
)
PEOPLE = _words("anna ben clara david emma frank grace henry iris jack kate leo mary nick olga paul")
CITIES = _words("athens berlin cairo delhi dublin geneva lagos lima london madrid oslo paris prague rome tokyo vienna")
NUMBERS = tuple(str(n) for n in range(19))
"""The sums; the first ten are added."""
OTHERS = _words(
    "the near lives in home of is + = copy : . ? where does live what how do swedes swedish say can you ask"
)
COPIED = (*(form for forms in (*NOUNS, *VERBS) for form in forms[:2]), *PEOPLE, *CITIES)
"""What lists are made of."""

MAX_LENGTH = 2**20
"""Ids of a text, and texts of a block."""
SKILLS = ("agreement", "facts", "facts turned round", "arithmetic", "copying", "translation")
ASKED = ("facts", "arithmetic", "copying", "translation")
"""The skills of which there are questions."""

END = "</s>"
"""Between texts, and before the first."""
VOCABULARY: Words = (
    *("<pad>", END),
    *OTHERS,
    *NUMBERS,
    *(word for group in (NOUNS, VERBS, ADJECTIVES) for forms in group for word in forms),
    *(*PEOPLE, *CITIES),
)
_PLACE = {word: place for place, word in enumerate(VOCABULARY)}


@dataclass(frozen=True)
class Exercise:
    """A prompt with its right answers.

    >>> from clozelab.languages import Exercise
    >>> exercise = Exercise("arithmetic", ("3", "+", "4", "="), (("7",),), ("what", "is", "3", "+", "4", "?"))
    >>> exercise.right(["7"]), exercise.right(["7", "7"]), " ".join(exercise.statement)
    (True, False, '3 + 4 = 7 .')
    """

    skill: str
    prompt: Words
    """The beginning of the statement."""
    answers: tuple[Words, ...]
    """All that are right, the one that the statement gives first; all of one length."""
    question: Words = ()
    """The same as a question; empty where the skill has none."""
    rest: Words = (".",)
    """What follows the answer in the statement."""
    held_out: bool = False
    """Whether its combination never occurs in text."""

    @property
    def answer(self) -> Words:
        """The one that the statement gives."""
        return self.answers[0]

    @property
    def statement(self) -> Words:
        """As it stands in prose."""
        return (*self.prompt, *self.answer, *self.rest)

    def right(self, words: Sequence[str]) -> bool:
        """Whether these words, and no others, are an answer."""
        return tuple(words) in self.answers


@dataclass(frozen=True)
class World:
    """Text, and exercises about what it holds.

    `without` leaves out skills: neither prose nor interviews hold them, though their words, and questions without
    answers, are there as before. "interviews" leaves those out altogether.

    >>> from clozelab.languages import World
    >>> world = World(seed=0)
    >>> [exercise] = world.exercises("arithmetic", 1)
    >>> " ".join(exercise.prompt), exercise.answer, exercise.held_out
    ('8 + 2 =', ('10',), True)
    >>> text = world.block(0, rows=2, length=32)  # of texts 0 and 1: a function of the seed and these numbers
    >>> text.shape, world.words(text[0, :1])
    (torch.Size([2, 32]), ['</s>'])

    Raises `InputError` for a skill that does not exist.
    """

    seed: int = 0
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_int(self.seed, "the seed"))
        object.__setattr__(self, "without", tuple(map(str, self.without)))
        if unknown := set(self.without) - {*SKILLS, "interviews"}:
            raise InputError(f"a world can be without {', '.join(SKILLS)} or interviews, got {', '.join(unknown)}")

    # ------------------------------------------------------------------ words and ids

    @property
    def special(self) -> SpecialIds:
        """`<pad>` and `</s>`; all other ids are words."""
        return SpecialIds(len(VOCABULARY), pad=0, eos=1)

    def ids(self, words: Iterable[str]) -> list[int]:
        """Raises `InputError` for a word that the world does not have."""
        try:
            return [_PLACE[word] for word in words]
        except KeyError as error:
            raise InputError(f"this world has no word {error}") from None

    def words(self, ids: Iterable[int]) -> list[str]:
        """The inverse of `ids`."""
        return [VOCABULARY[check_int(one, "each id", 0, len(VOCABULARY) - 1)] for one in ids]

    # ------------------------------------------------------------------ text

    def text(self, n: int, length: int) -> list[int]:
        """Text number n (any whole number, negative ones too): `length` ids that begin with an end of text.

        It consists of whole texts of a few sentences, with an end of text after each; the last is cut off.
        """
        length = check_int(length, "length", 0, MAX_LENGTH)
        rng, words = Random(f"{self.seed} text {check_int(n, 'the number of a text')}"), [END]
        while len(words) < length:
            words += [*self._some_text(rng), END]
        return self.ids(words[:length])

    def block(self, n: int, rows: int, length: int) -> Tensor:
        """(rows, length) int64: texts number n x rows and following, as batch n of training."""
        rows, n = check_int(rows, "rows", 1, MAX_LENGTH), check_int(n, "the number of a block")
        return torch.tensor([self.text(n * rows + row, length) for row in range(rows)])

    def prose(self, n: int, length: int) -> list[int]:
        """One long text of prose alone, to see how reading more of it helps: `length` ids, an end of text first."""
        check_int(length, "length", 1, MAX_LENGTH)
        rng, words = Random(f"{self.seed} prose {n}"), [END]
        return self.ids((words + self._prose(rng, sentences=length // 4))[:length])  # none has less than 5 words

    def _some_text(self, rng: Random) -> list[str]:
        kind = rng.choice(("prose", "prose", "questions", "interviews"))
        if kind == "questions":
            asked = (self._seen(rng.choice(ASKED), rng) for _ in range(rng.randint(3, 8)))
            return [word for exercise in asked for word in exercise.question]
        if kind == "prose" or kind in self.without:
            return self._prose(rng, sentences=rng.randint(2, 9))
        skills = [skill for skill in ASKED if skill not in self.without]
        asked = (self._seen(rng.choice(skills), rng) for _ in range(rng.randint(2, 6)))
        return [word for exercise in asked for word in ("ask", *exercise.question, "say", *exercise.answer, ".")]

    def _prose(self, rng: Random, sentences: int) -> list[str]:
        """A text is about two things."""
        skills = rng.sample([*(skill for skill in SKILLS if skill not in self.without), "swedish"], 2)
        words = []
        for _ in range(sentences):
            skill = rng.choice(skills)
            if skill == "swedish":
                words += (*self._seen("translation", rng).answer, ".")
            else:
                words += self._seen(skill, rng).statement
        return words

    # ------------------------------------------------------------------ exercises

    def exercises(self, skill: str, count: int, *, held_out: bool = True, draw: int = 0) -> list[Exercise]:
        """Different exercises of a skill, at most `count`; fewer where there are no more.

        `held_out`: with combinations that never occur in text, or with those that do. `draw` numbers the choice.
        Raises `InputError` for a skill that does not exist.
        """
        if skill not in SKILLS:
            raise InputError(f"a skill is one of {', '.join(SKILLS)}, got {skill!r}")
        count = check_int(count, "count", 0, MAX_LENGTH)
        rng, found = Random(f"{self.seed} {skill} {draw}"), {}
        for _ in range(100 * count):
            exercise = self._exercise(skill, rng)
            if exercise.held_out == held_out:
                found.setdefault(exercise.prompt, exercise)
            if len(found) == count:
                break
        return list(found.values())

    def _seen(self, skill: str, rng: Random) -> Exercise:
        while (exercise := self._exercise(skill, rng)).held_out:
            pass
        return exercise

    def _exercise(self, skill: str, rng: Random) -> Exercise:
        return getattr(self, f"_{skill.replace(' ', '_')}")(rng)

    @cached_property
    def _home(self) -> dict[str, str]:
        return dict(zip(PEOPLE, Random(f"{self.seed} homes").sample(CITIES, len(CITIES))))

    @cached_property
    def _apart(self) -> dict[str, frozenset]:
        """By skill, a fifth of the combinations (of the people a quarter): those that never occur."""
        nouns = range(len(NOUNS))
        sums = [
            pair for pair in combinations_with_replacement(range(10), 2) if 2 <= sum(pair) <= 16
        ]  # of 0, 1, 17, 18 there is one
        possible = {
            "agreement": [pair for pair in product(nouns, nouns) if pair[0] != pair[1]],
            "arithmetic": sums,
            "copying": [pair for pair in product(COPIED, COPIED) if pair[0] != pair[1]],
            "translation": list(product(range(len(ADJECTIVES)), nouns)),
        }
        apart = {
            skill: frozenset(Random(f"{self.seed} {skill} apart").sample(pairs, len(pairs) // 5))
            for skill, pairs in possible.items()
        }
        people, quarter = Random(f"{self.seed} people apart").sample(PEOPLE, len(PEOPLE)), len(PEOPLE) // 4
        apart["facts"] = frozenset(people[:quarter])
        apart["facts turned round"] = frozenset(people[quarter : 2 * quarter])
        return apart

    def _agreement(self, rng: Random) -> Exercise:
        subject, other = rng.sample(range(len(NOUNS)), 2)
        number, verb = rng.randrange(2), rng.randrange(len(VERBS))
        verbs = [VERBS[(verb + i) % len(VERBS)][number] for i in range(len(VERBS))]
        return Exercise(
            "agreement",
            ("the", NOUNS[subject][number], "near", "the", NOUNS[other][rng.randrange(2)]),
            tuple((verb,) for verb in verbs),
            rest=("the", rng.choice(NOUNS)[rng.randrange(2)], "."),
            held_out=(subject, other) in self._apart["agreement"],
        )

    def _facts(self, rng: Random) -> Exercise:
        person, second = rng.choice(PEOPLE), rng.random() < 0.5
        return Exercise(
            "facts",
            ("the", "home", "of", person, "is") if second else (person, "lives", "in"),
            ((self._home[person],),),
            ("where", "does", person, "live", "?"),
            held_out=second and person in self._apart["facts"],
        )

    def _facts_turned_round(self, rng: Random) -> Exercise:
        person = rng.choice(PEOPLE)
        apart = person in self._apart["facts turned round"]
        return Exercise("facts turned round", ("in", self._home[person], "lives"), ((person,),), held_out=apart)

    def _arithmetic(self, rng: Random) -> Exercise:
        a, b = rng.randrange(10), rng.randrange(10)
        return Exercise(
            "arithmetic",
            (NUMBERS[a], "+", NUMBERS[b], "="),
            ((NUMBERS[a + b],),),
            ("what", "is", NUMBERS[a], "+", NUMBERS[b], "?"),
            held_out=(min(a, b), max(a, b)) in self._apart["arithmetic"],
        )

    def _copying(self, rng: Random) -> Exercise:
        words = tuple(rng.sample(COPIED, rng.randint(2, 4)))
        return Exercise(
            "copying",
            ("copy", *words, ":"),
            (words,),
            ("can", "you", "copy", *words, "?"),
            held_out=words[:2] in self._apart["copying"],
        )

    def _translation(self, rng: Random) -> Exercise:
        adjective, verb, (noun, other) = rng.randrange(8), rng.choice(VERBS), rng.sample(range(len(NOUNS)), 2)
        english = (ADJECTIVES[adjective][0], NOUNS[noun][0], verb[0], NOUNS[other][0])
        return Exercise(
            "translation",
            (*english, "in", "swedish", ":"),
            ((ADJECTIVES[adjective][1], NOUNS[noun][2], verb[2], NOUNS[other][2]),),
            ("how", "do", "swedes", "say", *english, "?"),
            held_out=(adjective, noun) in self._apart["translation"],
        )
