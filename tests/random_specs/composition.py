"""A random spec, put together from the declarations: data, views, encoders, memories, losses, stages."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from mmflow.data import read_column
from mmflow.plugin import ComponentError, Loss, TensorType
from mmflow.plugin.kinds import Application, Evaluator, Stage, View
from mmflow.plugin.references import Grid, Pooled, RawField, TokenSequence
from mmflow.plugin.samples import SampleError
from mmflow.plugin.targets import Owner
from mmflow.spec import SpecError, load_text
from mmflow.spec.text.yaml_writer import write_yaml
from tests.random_specs.drawing import Unfit
from tests.random_specs.files import Files
from tests.random_specs.fitting import limits_of, other_part, same_form, transformed
from tests.random_specs.fragments import FRAGMENTS, used_by
from tests.random_specs.known import TOGETHER, together
from tests.random_specs.referring import Aims, accepts_raw
from tests.random_specs.registered import component, counted, names
from tests.random_specs.values import limits
from tests.random_specs.writing import Writing, valid

PARTNERS: Mapping[str, str] = {"emitted": "telling"}
"""Losses with the encoder that gives what they read."""
PLAIN = ("label", "labels", "number")
"""Modalities whose values are counted before they are chosen as targets."""
LAST = ("normalize", "hf_image", "open_clip_image", "timm_image", "hf_audio")
"""Transforms that give numbers, which others along them do not take."""
BY_SOURCE = (
    "source/concat", "source/mix", "source/noisy", "source/filter", "source/split", "encoder/scores", "encoder/graph",
    "stage/zero_shot", "source/hf_dataset", "source/webdataset", "source/sentences",
)  # fmt: skip
"""Sources that are seldom chosen, and components that read one source alone: they come in every seventh spec."""
SELDOM_BY_CHANCE = (
    *(one for one in FRAGMENTS if one not in BY_SOURCE),
    "encoder/graph", "encoder/hard_pairs", "encoder/members", "encoder/scores", "encoder/transformers_video",
    "encoder/video_transformer", "encoder/concat", "loss/emitted", "stage/boundary_detection", "stage/calibration",
    "stage/category_discovery", "stage/detection", "stage/kmeans", "stage/moment_retrieval", "stage/open_set",
    "stage/multi_label_probe", "stage/pair_classification", "stage/select", "stage/similarity_correlation",
    "stage/tracking", "stage/yes_no", "transform/choose", "transform/color_jitter", "transform/crop_time",
    "transform/drop_words", "transform/erase", "transform/gain", "transform/gray", "transform/hf_audio",
    "transform/log_mel", "transform/lower", "transform/mask_time", "transform/mask_tokens", "transform/one_of",
    "transform/open_clip_image", "transform/patch_mask", "transform/rand_augment", "transform/solarize",
    "transform/timm_image", "transform/torchvision",
)  # fmt: skip
"""Components that hardly come into a spec by chance."""
OF_ONE_LENGTH = ("crop_time", "shift_time", "warp_time", "permute_time", "reverse_time", "mask_time", "sample_frames")
"""Transforms of which the fields of a view must have one length in time."""
BY_FRAGMENT = ("caption_nll",)
"""Losses of numbers that belong together, as a fragment has them."""
HEAVY = ("resnet",)
"""Encoders that take most of the time of a spec: they come in their turn, and now and then."""
DRAWS = 10
"""Draws of a spec until it has what it is to have and `check` does not refuse it at once."""
AS_DRAWN = 5
"""One spec in so many is taken as it was drawn, also where `check` refuses it."""
SOURCES: Mapping[str, str] = {
    **{f"stage/{use}": "table" for use in TOGETHER},
    "encoder/graph": "graphs", "encoder/video_transformer": "motions", "encoder/transformers_video": "motions",
    "transform/log_mel": "sounds", "transform/hf_audio": "sounds",
    **{name: fragment.source for name, fragment in FRAGMENTS.items()},
}  # fmt: skip
"""The data that components take which seldom fit."""
ORDER = ("data", "views", "encoders", "memories", "parts", "losses", "track")


@dataclass
class RandomSpec:
    """The text of a spec, and the components in it as `kind/name`."""

    text: str
    uses: set[str]


def compose(number: int, files: Files) -> RandomSpec:
    """The spec of that number: the same always, and unlike those of all others.

    Components take turns, those oftener that seldom fit into a spec by chance: each is drawn again until it stands in.
    """
    wanted, found, best = wishes(number), None, (False, False, 0)
    for draw in range(DRAWS):
        spec = Composer(Random(f"{number}.{draw}"), files, wanted=wanted).spec()
        drawn = number % AS_DRAWN == 0 or not refused(spec.text)
        rank = (wanted[0] in spec.uses, drawn, len(spec.uses.intersection(wanted)))
        if found is None or rank > best:
            found, best = spec, rank
        if all(best[:2]):
            break
    assert found is not None
    return found


def wishes(number: int) -> tuple[str, ...]:
    """Components that are to stand in the spec of a number: one that seldom fits, and two of all in turn."""
    every = sorted(name for name, reason in counted().items() if not reason)
    seldom = BY_SOURCE if number % 7 == 3 else SELDOM_BY_CHANCE
    turn = [
        seldom[number // 7 % len(seldom) if seldom is BY_SOURCE else number % len(seldom)],
        *(every[(2 * number + n) % len(every)] for n in (0, 1)),
    ]
    return tuple(dict.fromkeys(turn))


def refused(text: str) -> bool:
    """Whether `check` refuses a spec by its declarations alone."""
    try:
        load_text(text)
    except SpecError:
        return True
    return False


class Composer(Writing):
    """Puts one spec together, each section from what stands in those before it."""

    source_name: str = ""

    def spec(self) -> RandomSpec:
        self.data()
        stages: dict[str, Any] = {}
        for one in self.wanted:
            if one in FRAGMENTS and FRAGMENTS[one].source == self.source_name and not self.strange():
                self.fragment(one, stages)
        self.several("view", self.view, 2 if self.wishes_for("transform") else self.choose([0, 1, 1]))
        self.several("tower", lambda name: self.encoder(name, raw=True), self.choose([1, 2, 2]))
        self.several("node", self.encoder, 3 if self.wishes_for("encoder", "constraint") else self.choose([0, 1, 2]))
        self.several(
            "bank",
            lambda name: self.entry("memories", name, "memory"),
            self.wishes_for("memory") or self.now_and_then(3),
        )
        self.several("part", self.part, self.now_and_then(2))
        self.several("loss", lambda name: self.entry("losses", name, "loss"), self.choose([1, 1, 2]))
        if "track" not in self.written and self.wishes_for("tracker"):
            self.attempt(lambda: self.written.update(track={"log": self.one_of("tracker")}))
        if self.written.get("losses"):
            train = self.attempt(lambda: self.stage("train")) or {}
            train.setdefault("sampler", self.attempt(lambda: self.one_of("sampler")) or "shuffle")
            stages = {"train": train, **stages}
        for number in range(3 if self.wishes_for("stage") else self.choose([1, 2, 2])):
            self.attempt(lambda number=number: self.further(stages, f"eval{number}"))
        head = {"mmflow": 1, "name": "random", "seed": self.choose([0, 1])}
        sections = {name: self.written[name] for name in ORDER if self.written.get(name)}
        return RandomSpec(write_yaml({**head, **sections, "stages": stages}), self.uses)

    def fragment(self, wanted: str, stages: dict[str, Any]) -> None:
        """Write what a component needs around it, and the component with its other fields drawn."""
        sections: dict[str, Any] = copy.deepcopy(dict(FRAGMENTS[wanted].sections))
        main, use = FRAGMENTS[wanted].main, wanted.partition("/")[2]
        if main:
            holder = sections
            for key in main[:-1]:
                holder = holder[key]
            kind = wanted.partition("/")[0]
            held = holder[main[-1]]
            steps = held if isinstance(held, list) else [held]
            made = component(kind, use)
            done = [
                self.fields_of(made, {k: v for k, v in s.items() if k != "use"}) if s["use"] == use else s
                for s in steps
            ]
            holder[main[-1]] = done if isinstance(held, list) else done[0]
        self.uses |= used_by(sections)
        stages |= sections.pop("stages", {})
        for name, entries in sections.items():
            self.written.setdefault(name, {}).update(entries)

    # --- data and views --------------------------------------------------------------------------------

    def data(self) -> None:
        """Two entries: a source, and the same with other samples (or the same again)."""
        name = self.named("source", [name for name in names("source") if name != "recorded" or self.strange()])
        asked = [SOURCES[one] for one in self.wanted if one in SOURCES]
        if asked and (asked[0] == SOURCES.get(self.wanted[0]) or not self.wishes_for("source")) and not self.strange():
            name = asked[0]
        self.source_name = name
        first = self.source(name, 0)
        if name == "digits":
            self.uses.add("source/subset")
            first = {"use": "subset", "of": first, "size": 24}
        self.written["data"] = {"one": first, "other": first if self.now_and_then() else other_part(first)}
        if self.now_and_then(12):
            # It has no rows: data that are elsewhere.
            self.written["data"]["elsewhere"] = self.source("recorded", 0)
        self.world = type(self.world)(self.fields_in(first))
        self.world.varied = self.varied(first)

    def varied(self, source: Mapping[str, Any]) -> set[str]:
        """Fields with plain values of which the data have several."""
        made, found = valid(component("source", source["use"]), source), set[str]()
        for name, declared in self.world.known.items():
            if len(declared.axes) == 1 and not declared.static and declared.modality in PLAIN:
                try:
                    values = read_column(made.open(), made, name)
                except (ComponentError, SampleError):
                    continue
                counts = Counter(str(value) for value in values if value is not None)
                found |= {name} if sum(count > 2 for count in counts.values()) > 1 else set()
        return found

    def view(self, name: str) -> None:
        many = 2 if self.now_and_then(3) else 1
        raw = [c for c in self.world.choices((RawField,)) if c.target.section in ("fields", "views")]
        raw = [c for c in raw if c.declared is not None]
        asked = [one.partition("/")[2] for one in self.wishes() if one.startswith("transform/")]
        fitting = [c for c in raw if any(transformed(use, [c.declared]) is not None for use in asked)]
        of = [self.choose(fitting or raw) for _ in range(many)]
        types: Sequence[TensorType] = [choice.declared for choice in of]
        steps: list[Any] = []
        for _ in range(self.choose([1, 1, 2])):
            use = self.named("transform", [use for use in names("transform") if transformed(use, types) is not None])
            steps.append(self.fields_of(component("transform", use), {}))
            found = transformed(use, types, steps[-1])
            if found is None or (many > 1 and use in OF_ONE_LENGTH and not self.strange()):
                raise Unfit(use)
            types = found
            if use in LAST and not self.strange():
                break
        entry: dict[str, Any] = {"of": [c.text for c in of] if many > 1 else of[0].text, "apply": steps}
        if self.now_and_then(3):
            entry["copies"] = 2
        self.keep("views", name, entry, valid(View, entry), {("of", i): c.target for i, c in enumerate(of)})

    # --- entries ---------------------------------------------------------------------------------------

    def encoder(self, name: str, raw: bool = False, use: str = "") -> None:
        uses = [use for use in names("encoder") if limits(component("encoder", use).model_fields["of"].metadata).most]
        uses = [use for use in uses if use not in HEAVY or f"encoder/{use}" in self.wishes() or self.now_and_then(8)]
        use = use or self.named("encoder", [use for use in uses if not raw or accepts_raw(component("encoder", use))])
        made, aims = component("encoder", use), Aims()
        fields = self.fields_of(made, {}, aims=aims)
        if issubclass(made, Application) and self.now_and_then(2):
            self.applied(fields, aims)
        self.keep("encoders", name, fields, valid(made, fields), aims)

    def applied(self, fields: dict[str, Any], aims: Aims) -> None:
        """Apply weights to other inputs of the same types, where there are some."""
        inputs = [self.world.type_of(target) for target in self.world.inputs(aims["weights",].owner).values()]
        known = self.world.choices((Pooled, RawField, TokenSequence, Grid))
        alike = [[c for c in known if same_form(c.declared, one)] for one in inputs]
        if alike and all(alike):
            picked = [self.choose(found) for found in alike]
            aims |= {("of", place): choice.target for place, choice in enumerate(picked)}
            fields["of"] = [choice.text for choice in picked]

    def entry(self, section: str, name: str, kind: str) -> None:
        uses = [use for use in names(kind) if use not in BY_FRAGMENT or self.strange()]
        made, aims = component(kind, self.named(kind, uses)), Aims()
        partner = f"{name}_{PARTNERS.get(made.use)}"
        if made.use in PARTNERS and partner not in self.written.get("encoders", {}):
            self.attempt(lambda: self.encoder(partner, use=PARTNERS[made.use]))
        fields = self.fields_of(made, {}, aims=aims)
        self.keep(section, name, fields, valid(made, fields), aims)

    def part(self, name: str) -> None:
        """A component that is used only through others: a score, a number, an encoder without inputs, a service."""
        kind = self.choose(["score", "value", "encoder", "service", "service"])
        alone = [use for use in names(kind) if not limits_of(component(kind, use)) or kind != "encoder"]
        made = component(kind, self.choose(alone))
        fields = self.fields_of(made, {})
        if valid(made, fields) is None:
            raise Unfit(name)
        self.written.setdefault("parts", {})[name] = {**fields, "use": f"{kind}/{made.use}"}
        self.shared.setdefault(kind, []).append(f"parts.{name}")

    def keep(self, section: str, name: str, entry: Any, made: Any, aims: Aims) -> None:
        """Add an entry. Most of those that their own declaration refuses are drawn again."""
        owner = Owner(section, name)
        if made is not None:
            self.world.add(owner, made, aims)
        known = made is not None and (section not in ("encoders", "views") or self.world.outputs_of(owner) is not None)
        if not (known and self.minimizable(made, aims)) and not self.strange():
            self.world.remove(owner)
            raise Unfit(name)
        self.written.setdefault(section, {})[name] = entry

    def minimizable(self, made: Any, aims: Aims) -> bool:
        """Whether a loss takes its inputs, as far as it says so itself."""
        types = {place: self.world.type_of(target) for place, target in aims.items()}
        of = [declared for place, declared in types.items() if place[0] == "of" and declared is not None]
        alone = {str(place[0]): one for place, one in types.items() if len(place) == 1 and one is not None}
        try:
            if isinstance(made, Loss):
                made.fits(of, alone)
        except ComponentError:
            return False
        return True

    # --- stages ----------------------------------------------------------------------------------------

    def further(self, stages: dict[str, Any], name: str) -> None:
        """A stage that trains nothing: an evaluation, or one that makes values for those that come after it."""
        uses = [use for use in names("stage") if use != "train"]
        measuring = [use for use in uses if issubclass(component("stage", use), Evaluator)]
        use = self.named("stage", measuring if self.now_and_then(2) else uses)
        if use == "mixed_radix" and not self.world.whole:
            use = "ask"
        if use == "kmeans" and not self.world.vectors:
            use = "embed"
        fields = self.stage(use)
        made = valid(component("stage", use), fields)
        stages[name] = fields
        if fields.get("choices") and fields.get("draws", 1) == 1:
            self.world.whole.add(f"{name}.answer")
        if use == "embed" and isinstance(made, Stage):
            self.world.vectors |= {f"{name}.{output}" for output in made.given()}
        if isinstance(made, Stage):
            self.world.values += [(name, output, of) for output, of in made.given().items()]

    def stage(self, use: str) -> dict[str, Any]:
        made = component("stage", use)
        assert issubclass(made, Stage)
        length = self.choose([{"steps": 2}, {"steps": 2}, {"epochs": 1}]) if made.trains else {}
        apart = together(use, self.world.known, "losses" in self.written, self.choose)
        if apart is None and not self.strange():
            raise Unfit(use)
        data = {"data": "one"} if "data" in made.model_fields else {}
        fields = self.fields_of(made, {**data, **length, **(apart or {})})
        if valid(made, fields) is None and not self.strange():
            raise Unfit(use)
        return fields
