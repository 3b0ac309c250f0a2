"""Which entry the first word of a reference means: encoder over view over field, inside its own definition one step
outward. Everything else that fits as well is a tie, which asks for the section.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmflow.plugin.kinds import Encoder
from mmflow.plugin.references import Encoded, RefType, Weight
from mmflow.plugin.targets import Owner, Target
from mmflow.spec.components.classes import VALUES
from mmflow.spec.references.endings import Endings, main_of
from mmflow.spec.references.fitting import transforms_to
from mmflow.spec.references.names import INIT, NODES, SAMPLER, SECTIONS, SINGULAR, BadReference, Seen, expected_of
from mmflow.spec.references.types import Types
from mmflow.spec.references.wanted import LEADS_TO, Output, Wanted
from mmflow.spec.text.problems import did_you_mean

Words = tuple[str, ...]


class Lookup:
    """From the words of a reference to its target."""

    def __init__(self, seen: Seen, types: Types, endings: Endings) -> None:
        self.seen, self.types, self.endings = seen, types, endings

    def resolve(self, reference: Wanted, owner: Owner) -> Target:
        """The target of a reference inside `owner`; raises `BadReference`."""
        words, wanted = self._in_stream(reference, owner), reference.types
        if owner.section == "stage" and Encoded in wanted:
            wanted = (*wanted, Output)
        if not wanted and reference.kind == "value" and self._is_node(words):
            # A number for each row, or constants, and not the number of another component.
            wanted = (Weight,)
        if not wanted:
            return self.endings.shared(words, reference.kind)
        allowed = tuple(dict.fromkeys(section for t in wanted for section in LEADS_TO.get(t, ())))
        first = words[0]
        if first in SECTIONS and len(words) > 1:
            return self._explicit(words, wanted, allowed)
        found = self._candidates(words, allowed, owner, reference.raw)
        text = ".".join(words)
        if len(found) > 1:
            names = [f"{section}.{text}" for section in found]
            raise BadReference(
                f"`{text}` may be {' or '.join(SINGULAR[s] for s in found)}", hint=f"write {' or '.join(names)}"
            )
        if not found:
            if self.types.fields is None and "fields" in allowed:
                return Target("fields", first, output=".".join(words[1:]) or None)
            raise self._unknown(words, wanted, allowed, owner)
        return self._finish(found[0], words, words, wanted)

    def _in_stream(self, reference: Wanted, owner: Owner) -> Words:
        """The words of a reference; a sampler of a stream means its own fields first."""
        place, words = reference.place, reference.words
        if owner.section == "stage" and place[:1] == ("data",) and place[2:3] == (SAMPLER,):
            own = (str(place[1]), *words)
            if self.endings.field(own) is not None:
                return own
        return words

    def entry_of(self, reference: Wanted, owner: Owner) -> tuple[Owner, Words] | None:
        """The entry that a reference inside `owner` begins with, and the words behind its name, by names alone."""
        words: Words = reference.words
        first, *further = words
        if further and first in SECTIONS:
            section, words = first, tuple(further)
            first, *further = words
        else:
            allowed = [section for wanted in reference.types for section in LEADS_TO.get(wanted, ())]
            section = next(iter(self._candidates(words, allowed, owner, reference.raw)), "")
        if section == "fields" and (found := self.endings.field(words)) is not None:
            return Owner("fields", found[0]), found[1]
        return (Owner(section, first), tuple(further)) if section else None

    def _candidates(self, words: Words, allowed: Sequence[str], owner: Owner, raw: bool) -> list[str]:
        name = words[0]
        found: list[str] = []
        # An encoder of images or texts means the field, where an encoder of the same name gives vectors.
        for section in ("views", "fields", "encoders") if raw else ("encoders", "views", "fields"):
            if section in allowed and self._has(section, words) and owner != (section, name, ""):
                found.append(section)
                break
        if "memories" in allowed and name in self.seen.entries["memories"] and owner != ("memories", name, ""):
            found.append("memories")
        if "data" in allowed and name in self.seen.data:
            found.append("data")
        if name == INIT or self.seen.begins_with_stage(name):
            # an encoder as a stage left it (`fit.image`), one of its values, or data that it made and no entry of data
            inside = not found and (len(words) > 1 or self._values(words))
            found += ["stages"] if ("stages" in allowed and "data" not in found) or inside else []
        return found

    def _values(self, words: Words) -> bool:
        """Whether a stage's bare name stands for a column or static output."""
        stage = words[0] if words[0] in (INIT, *self.seen.stages.repeats) else self.seen.cut(words)[0]
        gives = self.seen.stages.gives.get(stage) or {}
        return gives.get(main_of(gives) or "") in VALUES

    def _is_node(self, words: Words) -> bool:
        """Whether a path in a field that holds a number begins with a name of the data, the graph or another stage."""
        if words[0] in ("fields", "sampler", "stages"):
            return True
        known = words[0] not in NODES and any(self._has(section, words[:1]) for section in ("encoders", "views"))
        return known or self._exists("stages", words) or self.endings.field(words) is not None

    def _has(self, section: str, words: Words) -> bool:
        if section == "fields":
            return self.endings.field(words) is not None
        return words[0] in self.seen.entries[section]

    def _unknown(
        self, words: Words, wanted: tuple[type[RefType], ...], allowed: Sequence[str], owner: Owner
    ) -> BadReference:
        name, expected = words[0], expected_of(wanted)
        if "fields" in allowed and name in self.seen.stages.streams:
            here = [field for field in self.types.fields or () if field.startswith(f"{name}.")]
            if here and len(words) > 1:
                hint = did_you_mean(".".join(words), here, most=30)
                return BadReference(f"the stream {name} has no field `{'.'.join(words[1:])}`", hint=hint)
            hint = f"write {name}.FIELD"
            if not here:
                hint = f"it is a stream of {self.seen.stages.streams[name]}: write data: {{{name}: ENTRY}} here too"
            return BadReference(f"there is no `{name}` here", expected=expected, hint=hint)
        for section in SECTIONS[:-1]:
            if section not in allowed and self._exists(section, words) and owner != (section, name, ""):
                return BadReference(f"`{name}` is {SINGULAR[section]}", expected=expected)
        for section in ("losses", "parts"):
            if section in allowed and name in self.seen.entries[section]:
                return BadReference(f"`{name}` is {SINGULAR[section]}", hint=f"write {section}.{'.'.join(words)}")
        names = [n for section in allowed for n in self._names(section) if owner != (section, n, "")]
        hint = did_you_mean(name, list(dict.fromkeys(names)), most=20)
        # A field that holds what the name says, under another name.
        alike = [field for field, known in (self.types.fields or {}).items() if known.modality == name]
        if "fields" in allowed and alike:
            hint = f"`columns: {{{name}: {alike[0]}}}` of the data gives its field `{alike[0]}` that name"
        elif "fields" in allowed and (view := self._view(name, owner)):
            hint = view
        if owner == ("encoders", name, ""):
            return BadReference(f"`{name}` is this encoder itself, and nothing outside it has that name", hint=hint)
        return BadReference(f"there is no `{name}` here", expected=expected, hint=hint)

    def _view(self, name: str, owner: Owner) -> str | None:
        """A view that makes what an encoder reads of a field, where no field holds it: a class for a caption."""
        made, fields = self.types.component(owner), self.types.fields or {}
        accepts = {modality for those in made.accepts for modality in those} if isinstance(made, Encoder) else set()
        if not accepts or any(known.modality in accepts for known in fields.values()):
            return None
        for field, known in fields.items():
            if field != "id" and (found := transforms_to(known, accepts)):
                return f"`views: {{{name}: {{of: {field}, apply: [{found}]}}}}` makes it of `{field}`"
        return None

    def _exists(self, section: str, words: Words) -> bool:
        if section == "stages":
            return self.seen.begins_with_stage(words[0])
        return words[0] in self.seen.data if section == "data" else self._has(section, words)

    def _names(self, section: str) -> list[str]:
        if section == "fields":
            return list(self.types.fields or ())
        if section == "data":
            return list(self.seen.data)
        if section == "stages":
            return [*self.seen.stage_names(), INIT]
        return list(self.seen.entries.get(section, ()))

    def _explicit(self, words: Words, wanted: tuple[type[RefType], ...], allowed: Sequence[str]) -> Target:
        """A reference that begins with its section."""
        section, rest = words[0], words[1:]
        if section not in allowed and section != "stages":
            raise BadReference(f"`{'.'.join(words)}` is {SINGULAR[section]}", expected=expected_of(wanted))
        if section == "sampler":
            return self.endings.of_sampler(words)
        if section == "fields" and self.types.fields is None:
            return Target("fields", ".".join(rest))
        known = (section == "stages" and rest[0] == INIT) or self._exists(section, rest)
        if not known:
            hint = did_you_mean(rest[0], self._names(section), otherwise=f"the section `{section}` is empty", most=20)
            raise BadReference(f"there is no `{rest[0]}` in `{section}`", hint=hint)
        return self._finish(section, words, rest, wanted)

    def _finish(self, section: str, words: Words, rest: Words, wanted: tuple[type[RefType], ...]) -> Target:
        """The target of a reference whose first word, `rest[0]`, is known to be of `section`."""
        text, name = ".".join(words), rest[0]
        if section == "stages":
            return self.endings.of_stage(words, rest, wanted)
        if section == "data":
            if len(rest) > 1:
                raise BadReference(f"`{text}`: an entry of data has no parts", hint=f"write {name}")
            return Target("data", name)
        if section == "memories":
            return self.endings.of_memory(text, name, rest[1:])
        if section in ("losses", "parts"):
            return Target(section, name, field=rest[1:])
        return self.endings.of_node(section, text, rest, wanted)
