"""A generated answer, as it is kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        round: the round after which it was generated.
        client: the client's ID; 0 for the server.
        prompt: the text that the model has read.
        answer: the text that the model has written.
        reference: the right answer, or the program that checks the answer.
        score: the score by ``fedsa.eval.generate.metric``.

    """

    round: int
    client: int
    prompt: str
    answer: str
    reference: str
    score: float
