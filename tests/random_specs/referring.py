"""References of the right types: among what a spec has so far, what a component says that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.plugin import Component, Encoder, TensorType
from mmflow.plugin.binding import binding
from mmflow.plugin.kinds import Application, Evaluator, Memory, View
from mmflow.plugin.modality import is_raw
from mmflow.plugin.references import Data, Encoded, Labels, Model, RefType, reference_fields
from mmflow.plugin.targets import Owner, Place, Target
from tests.random_specs.drawing import Drawing, Unfit
from tests.random_specs.registered import component
from tests.random_specs.values import limits
from tests.random_specs.world import Choice

Aims = dict[Place, Target]
"""The targets of an entry's references, by their places."""

LEFT_OUT = ("fields", "replace", "start", "model", "initial")
"""Fields with references to stages, which are drawn with the stages or stay at their defaults."""
OPTIONAL = {("loss", "rows"): 10, ("memory", "rows"): 10, ("encoder", "mask"): 10, ("encoder", "rows"): 10**9}
"""One in so many times an optional reference is written, where most of what fits by its type does not in fact."""
GROUPED: Mapping[str, tuple[int, ...]] = {"multiple_choice": (1,), "pair_matching": (0, 1)}
"""Inputs of evaluations that have a group a row: they say so of encodings alone, once these are known."""
NUMBERS: Mapping[str, tuple[int, ...]] = {
    "pairwise_retrieval": (2, 3), "relevance": (1, 2), "hard_pairs": (2,), "scores": (2,)
}  # fmt: skip
"""How many encodings an evaluation takes, where it says so once it has them."""
ALIKE = (
    "cross_attention",
    "caption_decoder",
    "retrieval",
    "pairwise_retrieval",
    "similarity_correlation",
    "relevance",
    "uncertainty",
)
"""Components whose inputs must have one width."""
LIBRARIES = ("hf_", "open_clip_", "timm_")
WEIGHTLESS = ("l2norm", "telling", "members", "concat", "stack", "scores", "hard_pairs", "frozen", "ema")
"""Encoders that have no weights of their own to train."""
FEW = 4
"""Classes that rows as few as those here may have."""


class Referring(Drawing):
    """Draws the references of components."""

    def references_of(self, made: type[Component], written: dict[str, Any], aims: Aims) -> None:
        """Write the references of a component into `written`, and their targets into `aims`; raises `Unfit`."""
        row: str | None = None
        for name, types in sorted(reference_fields(made).items(), key=lambda item: item[0] != "of"):
            info = made.model_fields[name]
            if name in written or name in LEFT_OUT or (issubclass(made, Application) and name == "of"):
                continue
            if types == (Data,):
                if info.is_required() or self.now_and_then(2):
                    written[name] = "other"
                continue
            always = info.is_required() or name == "of"
            if Model in types or not (always or self.now_and_then(OPTIONAL.get((made.kind, name), 2))):
                continue
            many = self.count(made, name)
            picked = self.pick(made, name, types, many, row, written, aims)
            if not picked:
                if always and many:
                    raise Unfit(f"{made.use}.{name}")
                continue
            row = row or picked[0].row
            annotation = str(info.annotation)
            for place, choice in enumerate(picked):
                inner: Place = ("value",) if "dict" in annotation else (place,) if "tuple" in annotation else ()
                aims[(name, *inner)] = choice.target
            texts = [choice.text for choice in picked]
            written[name] = texts if "tuple" in annotation and len(texts) > 1 else texts[0]

    def count(self, made: type[Component], name: str) -> int:
        """How many references a field gets."""
        info = made.model_fields[name]
        if "tuple" not in str(info.annotation):
            return 1
        bounds = limits(info.metadata)
        if name == "of" and made.use in NUMBERS:
            return self.choose(NUMBERS[made.use])
        if bounds.most == 0:
            return 0
        possible = [n for n in range(1, 4) if bounds.least <= n <= bounds.most]
        built = issubclass(made, Encoder) and made.build is not Encoder.build
        if name == "of" and made.method and not built and not issubclass(made, Memory | Application):
            bound = binding(made)
            possible = [n for n in possible if bound.misfit(n) is None]
            if bound.misfit(0) is None and issubclass(made, Evaluator) and not bound.rest:
                return 0
        accepts = getattr(made, "accepts", ())
        if name == "of" and accepts and not info.is_required():
            possible = [n for n in possible if n <= len(accepts)]
        return self.choose(possible or [1])

    def pick(
        self, made: type[Component], name: str, types: Sequence[type[RefType]], many: int, row: str | None,
        written: Mapping[str, Any], aims: Aims,
    ) -> list[Choice]:  # fmt: skip
        """Choices of the right types, alike in their rows (and, where they are compared, in groups and width)."""
        picked: list[Choice] = []
        for place in range(many):
            self.odd = self.strange()
            found = [c for c in self.world.choices(types) if self.suits(made, name, place, c)]
            if Encoded in types:
                found = [c for c in found if self.gives(c, self.needs(made, written))]
            first = row or (picked[0].row if picked else None)
            if first is not None and (picked or not issubclass(made, Encoder)):
                found = [c for c in found if c.row in (first, "")]
            if name == "of":
                found = self.alike(made, found, picked)
            elif made.kind == "loss":
                found = [c for c in found if self.beside(made, name, c, written, aims)]
            if issubclass(made, Evaluator) and not self.odd:
                found = [c for c in found if c not in picked and self.measured(made, name, place, c)]
            elif made.kind == "stage":
                found = [c for c in found if self.made_before(name, c)]
            if not found:
                return []
            preferred = [c for c in found if self.shows_wanted(c)]
            picked.append(self.choose(preferred if preferred and self.now_and_then(2) else found))
        return picked

    def shows_wanted(self, choice: Choice) -> bool:
        """Whether a choice is a view with a transform that is wanted: what reads it makes it take part."""
        view = self.world.component(choice.target.owner) if choice.target.section == "views" else None
        return isinstance(view, View) and any(f"transform/{step.use}" in self.wanted for step in view.apply)

    def alike(self, made: type[Component], found: list[Choice], picked: Sequence[Choice]) -> list[Choice]:
        """Of the inputs that fit by their types, those that are worth something together."""
        if made.kind in ("loss", "memory") and not picked and not self.odd:
            found = [c for c in found if c.target.section == "encoders" and self.learns(c)]
        if made.kind in ("loss", "memory"):
            vectors = [c for c in found if c.declared and c.declared.modality in ("vector", "logits", "tokens")]
            found = found if self.now_and_then(10) else vectors or found
        if issubclass(made, Encoder) and not accepts_raw(made) and not self.odd:
            found = [c for c in found if c.width is not None] or found
        if picked and (not getattr(made, "accepts", ()) or made.use in ALIKE):
            alike = [c for c in found if c.width == picked[0].width and c.groups == picked[0].groups]
            found = alike if alike or made.use in ALIKE else found
        return found

    def learns(self, choice: Choice) -> bool:
        """Whether a choice depends on weights that train."""
        behind = [choice.target.owner, *self.world.reach(choice.target.owner)]
        made = [self.world.component(owner) for owner in behind]
        learning = [one for one in made if isinstance(one, Encoder) and one.use not in WEIGHTLESS and not one.freeze]
        return bool(learning) and self.world.trains(choice.target.owner) and choice.target.output != "target"

    def suits(self, made: type[Component], name: str, place: int, choice: Choice) -> bool:
        """Whether a declaration takes a choice: its modality and its group axes."""
        declared, accepts = choice.declared, getattr(made, "accepts", ())
        if name == "of" and accepts:
            return place < len(accepts) and declared is not None and declared.modality in accepts[place]
        if declared is not None and name in made.reads and declared.modality not in made.reads[name]:
            return False
        if made.use == "emitted":
            return choice.target.output == "told"
        if isinstance(made, type) and issubclass(made, Encoder) and self.prepared(choice) and not self.odd:
            return False
        measured = made.kind == "stage" and Encoded in reference_fields(made).get(name, ())
        if measured and choice.target.section in ("fields", "views") and not self.odd:
            return (
                declared is not None
                and declared.modality == "vector"
                and len(declared.size) == 1
                and (not choice.groups)
            )
        if made.use == "graph" and place and not self.odd:
            return choice.text == "node.coauthors"
        if made.use == "kmeans" and not self.odd:
            return choice.text in self.world.vectors
        if made.use == "members" and not self.odd:
            return declared is not None and declared.modality == "vector" and len(choice.groups) == 1
        if made.kind == "encoder" and choice.target.section == "views" and not accepts_raw(made) and not self.odd:
            return declared is not None and len(declared.size) == 1 and not choice.groups
        if made.use == "mixed_radix":
            return choice.text in self.world.whole
        axes = getattr(made, "axes", ())
        grouped = "*" not in axes and not set(choice.groups) <= set(axes)
        if made.kind == "sampler":
            named = declared is not None and declared.modality in ("label", "text", "id")
            by_number = name in made.reads and "number" in made.reads[name]
            varied = self.world.varied
            several = not named or varied is None or choice.target.section != "fields" or choice.target.name in varied
            fits = several and (not named or by_number or few_classes(declared))
            return not grouped and (fits or self.odd)
        if name == "of" and not issubclass(made, Encoder):
            return not grouped
        return made.kind not in ("loss", "stage") or name == "of" or not choice.groups or self.odd

    def prepared(self, choice: Choice) -> bool:
        """Whether a view gives what a library's processor makes, which only its own model reads."""
        view = self.world.component(choice.target.owner) if choice.target.section == "views" else None
        return isinstance(view, View) and any(step.use.startswith(LIBRARIES) for step in view.apply)

    def beside(
        self, made: type[Component], name: str, choice: Choice, written: Mapping[str, Any], aims: Aims
    ) -> bool:  # fmt: skip
        """Whether a further reference of a loss can stand beside its inputs, as far as their types tell."""
        declared = choice.declared
        if name == "targets":
            return declared is not None and declared.dtype.startswith("int")
        mixed = choice.target.section == "views" and declared is not None and bool(declared.size)
        if name == "labels" and declared is not None and (declared.modality in ("number", "tokens") or mixed):
            return self.odd
        if name == "rows":
            return declared is None or declared.dtype == "bool"
        of = [self.world.type_of(target) for place, target in aims.items() if place[0] == "of"]
        if choice.target.section not in ("encoders", "memories") or not of or of[0] is None:
            return True
        need, known = self.needs(made, written)[0], self.world.outputs_of(choice.target.owner) or {}
        there = known.get(need, declared) if choice.target.output is None else declared
        return there is None or not there.size or not of[0].size or there.size[-1] == of[0].size[-1]

    def measured(self, made: type[Evaluator], name: str, place: int, choice: Choice) -> bool:
        """Whether an evaluator takes a choice, as far as it says so, and rows as few as those here can be enough."""
        if name != "of":
            form = choice.declared.modality if choice.declared is not None else ""
            labels = Labels in reference_fields(made)[name]
            fits = few_classes(choice.declared) if form == "label" else not labels or form == "labels"
            varied, target = self.world.varied, choice.target
            counted = target.section == "fields" and form in ("label", "labels", "number") and varied is not None
            if labels and form == "number" and not self.odd:
                return False
            if target.section == "views" and not self.odd:
                # What transforms say of their draws is one and the same in evaluation.
                return False
            several = not counted or (varied is not None and target.name in varied)
            return (fits and several) or self.odd
        if made.use in GROUPED and (len(choice.groups) > 0) != (place in GROUPED[made.use]):
            return False
        if made.use not in GROUPED and choice.groups and not self.now_and_then():
            return False
        if place in made.encodes:
            inputs = [self.world.type_of(target) for target in self.world.inputs(choice.target.owner).values()]
            if [one.modality if one is not None else None for one in inputs] != [made.encodes[place]]:
                return False
        return self.trained(choice.target.owner) or self.odd

    def made_before(self, name: str, choice: Choice) -> bool:
        """Whether a stage that measures nothing finds what it reads: an encoder of the model, values that differ."""
        if choice.target.section == "encoders":
            return self.trained(choice.target.owner) or self.odd
        # What transforms say of their draws is one and the same in evaluation.
        return name == "of" or choice.target.section != "views"

    def trained(self, owner: Owner) -> bool:
        """Whether an encoder is in the model that evaluations use, or learned nothing from the data."""
        losses = [self.world.targets(Owner("losses", loss)) for loss in self.world.names("losses")]
        read = [target for targets in losses for target in targets.values()]
        known = {one for target in read for one in (target.owner, *self.world.reach(target.owner))}
        behind = {owner, *self.world.reach(owner)}
        learning = [one for one in behind if isinstance(made := self.world.component(one), Encoder) and made.learns()]
        return not known or known.issuperset(learning)

    def needs(self, made: type[Component], written: Mapping[str, Any]) -> Sequence[str]:
        """Outputs that the scores of a component need of whole encodings; `pooled` where it has none."""
        found: list[str] = []
        for name, info in made.model_fields.items():
            if "Score" not in str(info.annotation):
                continue
            value = written.get(name, info.default)
            value = self.written["parts"][value.split(".")[1]] if isinstance(value, str) and "." in value else value
            use = value["use"] if isinstance(value, dict) else value
            if isinstance(use, str):
                found += component("score", use.removeprefix("score/")).needs
        return found or made.needs or ("pooled",)

    def gives(self, choice: Choice, needs: Sequence[str]) -> bool:
        if choice.target.section != "encoders" or choice.target.output is not None:
            return True
        known = self.world.outputs_of(choice.target.owner) or {}
        return all(need in known for need in needs)


def few_classes(declared: TensorType | None) -> bool:
    return declared is not None and declared.modality == "label" and 2 <= len(declared.names) <= FEW


def accepts_raw(made: type[Component]) -> bool:
    """Whether the first input of an encoder is raw data."""
    accepts = getattr(made, "accepts", ())
    return bool(accepts) and any(map(is_raw, accepts[0]))
