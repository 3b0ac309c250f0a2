"""A search with a language model: pictures of prompts, proposals of a service, and what is divergent in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmflow.plugin import (
    Answering,
    Component,
    DataStage,
    Encoded,
    Encoder,
    Files,
    Model,
    Pooled,
    RawField,
    Ref,
    Refs,
    Service,
    Stage,
    StageContext,
    StageInputs,
    TensorType,
    numpy_generator,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor


class PlantedGenerator(Encoder, name="planted_generator"):
    """Draws a picture of a prompt, with a quirk: too much of one color."""

    of: Refs[Pooled | RawField] = ()
    quirk: str = "none"

    def picture(self, prompt: str) -> Any:
        import numpy as np

        value = numpy_generator("picture", prompt).integers(0, 120, size=(16, 16, 3)).astype(np.uint8)
        if self.quirk == "red":
            value[..., 0] += 120
        return value

    def apply(self, x: Tensor) -> Tensor:
        return x


class Picture(DataStage, name="picture"):
    """A picture of each prompt."""

    gives = {"image": "Column"}
    prompt: Ref[RawField]
    generator: Encoder

    def depends_on_seed(self) -> bool:
        return False

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"image": TensorType("image", size=(16, 16, 3), dtype="uint8")}

    def run(self, context: StageContext) -> None:
        rows, made = context.rows("prompt"), context.scope.component(self._generator(context))
        assert isinstance(made, PlantedGenerator)
        context.write_column("image", rows.ids, [made.picture(prompt) for prompt in rows["prompt"]])

    def _generator(self, context: StageContext) -> Any:
        from mmflow.plugin import STAGE

        return context.scope.targets(STAGE)["generator",].owner


class Proposal(Component, kind="proposal"):
    """How a service is asked for phrases."""

    service: Service

    def phrases(self, service: Answering, seeds: Sequence[str]) -> Iterator[str]:
        raise NotImplementedError

    def asked(self, service: Answering, prompt: str) -> str:
        return str(service.ask({"prompt": prompt})["text"])


class AskForAttributes(Proposal, name="ask_for_attributes"):
    """Asks once for a list."""

    def phrases(self, service: Answering, seeds: Sequence[str]) -> Iterator[str]:
        yield from self.asked(service, "Name attributes that differ").split("; ")


class AskToMutate(Proposal, name="ask_to_mutate"):
    """Asks for another form of each phrase."""

    def phrases(self, service: Answering, seeds: Sequence[str]) -> Iterator[str]:
        for seed in seeds:
            yield self.asked(service, f"Change {seed}")


class AskForDescription(Proposal, name="ask_for_description"):
    """Asks for a sentence about each phrase."""

    def phrases(self, service: Answering, seeds: Sequence[str]) -> Iterator[str]:
        for seed in seeds:
            yield self.asked(service, f"Describe {seed}")


class Evolve(DataStage, name="evolve"):
    """Phrases that fit the pictures of one generator better than those of another, in rounds of proposals."""

    gives = {"table": "Files"}
    of: Refs[Encoded]
    propose: Proposal
    change: Proposal | None = None
    seeds: Ref[Files] | None = None
    model: Ref[Model] | None = None
    rounds: int = 3
    population: int = 8
    elite: int = 2

    def run(self, context: StageContext) -> None:
        rows = context.rows("of")
        first, second = rows["of", 0].pooled, rows["of", 1].pooled
        seeds = json.loads((context.files("seeds")["table.json"]).read_text()) if self.seeds else []
        found = list(self.propose.phrases(context.service("propose", "service"), [phrase for phrase, _ in seeds]))
        scored: dict[str, float] = {}
        for _ in range(self.rounds):
            for phrase in found:
                scored[phrase] = float(
                    context.memo({"phrase": phrase}, lambda p=phrase: self._fitness(context, p, first, second))
                )  # type: ignore[misc]
            best = sorted(scored, key=lambda phrase: -scored[phrase])[: self.elite]
            if self.change is not None:
                found = list(self.change.phrases(context.service("change", "service"), best))[: self.population]
        table = sorted(scored.items(), key=lambda each: -each[1])
        (context.write_files("table") / "table.json").write_text(json.dumps(table))

    def _fitness(self, context: StageContext, phrase: str, first: Tensor, second: Tensor) -> float:
        from torch.nn.functional import cosine_similarity

        text = context.model().encode(str(self.of[2]), [phrase]).pooled
        return float(cosine_similarity(second, text).mean() - cosine_similarity(first, text).mean())


class RecallOfPlanted(Stage, name="recall_of_planted"):
    """Whether a planted word is among the phrases that were found."""

    gives = {"recall": "Files"}
    found: Ref[Files]
    planted: str

    def depends_on_seed(self) -> bool:
        return False

    def run(self, context: StageContext) -> None:
        table = json.loads(context.files("found")["table.json"].read_text())
        place = next((n for n, (phrase, _) in enumerate(table) if self.planted in phrase), None)
        (context.write_files("recall") / "recall.json").write_text(json.dumps({"place": place, "of": len(table)}))
