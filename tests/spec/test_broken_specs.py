"""Broken specs: each mistake gives one message with its line, what is wrong and how to fix it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.flow.plan import build_plan
from mmflow.model.outlook import outlook
from mmflow.spec import SpecError, load_spec, load_text

BASE = """\
mmflow: 1
name: base
data:
  train: {use: shapes, split: train, size: 400}
  test: {use: shapes, split: test, size: 100}
views:
  two: {of: image, copies: 2, apply: [flip]}
encoders:
  image: {use: vit, of: image, width: 32, depth: 2, head: {use: linear, dim: 16}}
  text: {use: text_transformer, of: caption, width: 32, depth: 1, head: {use: linear, dim: 16}}
  slow: {use: ema, weights: image, momentum: 0.99}
memories:
  queue: {use: queue, size: 64, of: text}
parts:
  late: {use: score/maxsim}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07, negatives: queue}
train: {data: train, epochs: 1, batch_size: 32, optimizer: {use: adamw, lr: 1e-3}}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text]}
"""
LOSS = "align: {use: infonce, of: [image, text], temperature: 0.07, negatives: queue}"
IMAGE = "image: {use: vit, of: image, width: 32, depth: 2, head: {use: linear, dim: 16}}"
SLOW = "slow: {use: ema, weights: image, momentum: 0.99}"
TRAIN = "train: {data: train, epochs: 1, batch_size: 32, optimizer: {use: adamw, lr: 1e-3}}"
EVAL = "retrieval: {use: retrieval, data: test, of: [image, text]}"
VIEW = "two: {of: image, copies: 2, apply: [flip]}"


STREAMS = """\
mmflow: 1
data:
  few: {use: shapes, size: 40}
  many: {use: shapes, size: 90}
views:
  weak: {of: pool.image, apply: [flip]}
encoders:
  x: {use: convnet4, of: few.image, width: 4}
  y: {use: same, weights: x, of: weak}
losses:
  known: {use: supcon, of: x, labels: few.label}
  near: {use: mse, of: [y, y.detach]}
train: {data: {few: few, pool: {data: many, batch_size: 20}}, epochs: 1, batch_size: 10}
eval:
  knn: {use: knn, data: {few: few}, test: many, of: x, labels: few.label}
"""

BROKEN_STREAMS = [
    (
        "of: [y, y.detach]",
        "of: [y, x]",
        "12:28: losses.near.of.1",
        ["the rows of pool (20 a batch) and few (10 a batch) do not pair", "one batch_size"],
    ),
    ("of: pool.image,", "of: [pool.image, few.label],", "6:27: views.weak.of.1", ["a view reads fields of one stream"]),
    (
        "data: {few: few}, test",
        "data: few, test",
        "8:26: encoders.x.of",
        ["no `few` here", "it is a stream of train: write data: {few: ENTRY} here too"],
    ),
    ("of: few.image", "of: few.imag", "8:26: encoders.x.of", ["few has no field `imag`", "did you mean few.image?"]),
    (
        "labels: few.label}\n  near",
        "labels: few.sampler.label}\n  near",
        "11:39: losses.known.labels",
        ["few has no field `sampler.label`"],
    ),
    ("epochs: 1,", "epochs: 1, fields: {few: knn},", "13:82: train.fields", ["each stream has its own"]),
    ("{few: few, pool", "{x: few, pool", "13:16: train.data.x", ["the stream `x` is also an encoder"]),
    ("{few: few, pool", "{data: few, pool", "13:16: train.data.data", ["the stream `data` is a word of the language"]),
    (
        "data: {few: few}, test",
        "data: {few: few, pool: many}, test",
        "15:42: eval.knn.data.pool",
        ["rows of few and of many are not the same rows"],
    ),
    (
        "data: {few: few}, test",
        "data: {few: {data: few, sampler: shuffle}}, test",
        "15:52: eval.knn.data.few.sampler",
        ["`sampler` of a stream is for stages that train"],
    ),
    ("of: [y, y.detach]", "of: [y, few]", "12:28: losses.near.of.1", ["no `few` here", "write few.FIELD"]),
]


@pytest.mark.parametrize(("before", "after", "place", "words"), BROKEN_STREAMS, ids=[c[1][:40] for c in BROKEN_STREAMS])
def test_a_mistake_in_streams_gives_one_message(before: str, after: str, place: str, words: list[str]) -> None:
    load_text(STREAMS)
    assert before in STREAMS
    with pytest.raises(SpecError) as caught:
        load_text(STREAMS.replace(before, after, 1), "s.yaml")
    said = [str(problem) for problem in caught.value.problems]
    message = next((one for one in said if one.startswith(f"s.yaml:{place}: ")), "")
    assert message, said
    assert all(word in message for word in words), message


def test_the_base_is_sound() -> None:
    assert list(load_text(BASE).stages) == ["train", "retrieval"]


# what is written, what stands there instead, "line:column: path" of the one message, words in it
BROKEN = [
    # the top
    ("mmflow: 1", "mmflow: 2", "1:9: mmflow", ["version", "found 2", "mmflow: 1"]),
    ("losses:", "loses:", "16:1: loses", ["no section", "did you mean losses?"]),
    ("name: base", "name: [base]", "2:7: name", ["found a list of 1"]),
    ("name: base", "seed: -1", "2:7: seed", ["found -1", "whole number from 0"]),
    ("name: base", "seed: true", "2:7: seed", ["found true"]),
    ("name: base", "name: a-$env.N", "2:7: name", ["$env.N", "write the name"]),
    ("name: base", "seed: $env.N", "2:7: seed", ["$env.N", "--set seed=..."]),
    ("name: base", "report: 3", "2:9: report", ["expected a mapping"]),
    ("name: base", "report: {titel: x}", "2:10: report.titel", ["no field", "did you mean title?"]),
    ("name: base", "track: {t: {use: nothing}}", "2:18: track.t.use", ["unknown tracker"]),
    ("name: base", "matrix: {a: {}}", "2:1: matrix", ["a matrix of specs", "`load_members`"]),
    ("name: base", "parts: {}", "14:1", ['the key "parts" stands twice']),
    # components
    ("use: infonce", "use: infonec", "17:16: losses.align.use", ["unknown loss", "did you mean 'infonce'?"]),
    ("use: infonce, of", "of", "17:10: losses.align", ["loss without `use`", "{use: NAME"]),
    ("use: infonce", "use: [infonce]", "17:16: losses.align.use", ["found a list of 1", "the name of a loss"]),
    ("use: infonce", "use: encoder/vit", "17:16: losses.align.use", ["not a loss"]),
    (LOSS, "align: 7", "17:10: losses.align", ["found 7", "{use: NAME, ...}"]),
    ("use: score/maxsim", "use: cosine", "15:15: parts.late.use", ["a score and of a value", "score/cosine"]),
    ("use: score/maxsim", "use: maxsmi", "15:15: parts.late.use", ["unknown component", "did you mean maxsim?"]),
    ("use: adamw", "use: adam_w", "18:66: train.optimizer.use", ["unknown optimizer", "'adamw'"]),
    ("apply: [flip]", "apply: [flop]", "7:39: views.two.apply.0", ["unknown transform", "'flip'"]),
    # fields
    ("temperature: 0.07", "temprature: 1", "17:44: losses.align.temprature", ["loss infonce", "mean temperature?"]),
    ("{use: linear, dim: 16}}\n  text", "linear}\n  text", "9:59: encoders.image.head", ["linear needs `dim`"]),
    ("lr: 1e-3", "lrr: 1e-3", "18:73: train.optimizer.lrr", ["optimizer adamw has no field", "lr"]),
    (", of: [image, text], temp", ", temp", "17:10: losses.align", ["loss infonce needs `of`"]),
    ("data: test, of", "of", "20:14: eval.retrieval", ["stage retrieval needs `data`"]),
    ("width: 32, depth: 2", "width: abc, depth: 2", "9:39: encoders.image.width", ['found "abc"', "a whole number"]),
    ("width: 32, depth: 2", "width: true, depth: 2", "9:39: encoders.image.width", ["found true", "a whole number"]),
    ("width: 32, depth: 2", "width: '32', depth: 2", "9:39: encoders.image.width", ['found "32"', "32 without quotes"]),
    ("width: 32, depth: 2", "width: 1_024, depth: 2", "9:39: encoders.image.width", ["write 1024"]),
    ("width: 32, depth: 2", "depth: 2.5", "9:39: encoders.image.depth", ["found 2.5", "a whole number"]),
    ("width: 32, depth: 2", "depth: 0", "9:39: encoders.image.depth", ["found 0", "at least 1"]),
    ("width: 32, depth: 2", "freeze: yes", "9:40: encoders.image.freeze", ['found "yes"', "write true"]),
    ("width: 32, depth: 2", "freeze: {exept: [a]}", "9:41: encoders.image.freeze.exept", ["did you mean except?"]),
    ("width: 32, depth: 2", "tokens: 3", "9:40: encoders.image.tokens", ["found 3"]),
    ("size: 64", "size: 64, fill: rand", "13:39: memories.queue.fill", ['found "rand"', "one of empty, random"]),
    ("size: 64", "size: 64, active: {from: {stps: 4}}", "13:49: memories.queue.active.from.stps", ["steps, epochs"]),
    ("temperature: 0.07", "temperature: -1", "17:57: losses.align.temperature", ["found -1", "above 0"]),
    ("temperature: 0.07", "temperature: hot", "17:57: losses.align.temperature", ["unknown value", "learned"]),
    ("temperature: 0.07", "temperature: {use: learned}", "17:57: losses.align.temperature", ["needs `init`"]),
    ("epochs: 1", "epochs: 1, steps: 5", "18:8: train", ["either `epochs` or `steps`"]),
    ("size: 400", "size: 400, seed: $env.N", "4:55: data.train.seed", ["$env.N", "can change a result", "$vars"]),
    ("epochs: 1", "epochs: $env.N", "18:30: train.epochs", ["$env.N", "workers"]),
    # names
    ("  late:", "  l ate:", "15:3: parts.l ate", ["cannot be referred to"]),
    ("  late:", "  views:", "15:3: parts.views", ["a word of the language"]),
    (EVAL, f"init: {EVAL[11:]}", "20:3: eval.init", ["a word of the language"]),
    (EVAL, f"train: {EVAL[11:]}", "20:3: eval.train", ["two stages are called train", "s.yaml:18:1"]),
    (VIEW, "two: image", "7:8: views.two", ['found "image"', "{of: image"]),
    ("parts:\n  late: {use: score/maxsim}", "parts: [1]", "14:8: parts", ["NAME"]),
    # references
    ("[image, text], temp", "[image, txt], temp", "17:37: losses.align.of.1", ["no `txt`", "did you mean text?"]),
    ("[image, text], temp", "[image, queue], temp", "17:37: losses.align.of.1", ["`queue` is a memory", "an encoder"]),
    ("[image, text], temp", "[image, caption], temp", "17:37: losses.align.of.1", ["`caption` is a field"]),
    ("[image, text], temp", "['image[0]', text], temp", "17:30: losses.align.of.0", ["not a reference", "image[0]"]),
    ("[image, text], temp", "[image.toks, text], temp", "17:30: losses.align.of.0", ["without `toks`", "tokens?"]),
    ("[image, text], temp", "[image.tokens, text], temp", "17:30: losses.align.of.0", ["write image"]),
    ("[image, text], temp", "[image.0, text], temp", "17:30: losses.align.of.0", ["without copies", "write image"]),
    ("[image, text], temp", "[image.after, text], temp", "17:30: losses.align.of.0", ["only a memory"]),
    ("[image, text], temp", "[encoders.txt, text], temp", "17:30: losses.align.of.0", ["no `txt` in `encoders`"]),
    ("[image, text], temp", "[views.two, text], temp", "17:30: losses.align.of.0", ["is a view"]),
    ("negatives: queue", "negatives: queue.key", "17:74: losses.align.negatives", ["no column `key`"]),
    ("negatives: queue", "temperature.x: 1", "17:63: losses.align.temperature.x", ["has no field"]),
    ("vit, of: image", "vit, of: imge", "9:25: encoders.image.of", ["no `imge`", "did you mean image?"]),
    ("vit, of: image", "vit, of: caption", "9:25: encoders.image.of", ["vit cannot read", "found text", "image"]),
    ("vit, of: image", "vit, of: two.5", "9:25: encoders.image.of", ["has 2", "two.1"]),
    ("vit, of: image", "vit, of: two", "17:30: losses.align.of.0", ["2 copies", "image.0"]),
    ("vit, of: image,", "vit,", "9:10: encoders.image", ["encoder vit needs `of`"]),
    ("weights: image", "weights: slow", "11:29: encoders.slow.weights", ["this encoder itself"]),
    ("weights: image", "weights: align", "11:29: encoders.slow.weights", ["a loss", "write losses.align"]),
    (SLOW, "slow: {use: concat, of: [image, slow2]}\n  slow2: {use: concat, of: [slow, text]}",
     "11:27: encoders.slow.of", ["a circle", "encoders.slow -> encoders.slow2"]),
    (", of: text}", ", of: {a: text, b: image}}", "17:74: losses.align.negatives", ["queue.a or queue.b"]),
    (VIEW, "two: {of: text}", "7:13: views.two.of", ["`text` is an encoder"]),
    (LOSS, "sup: {use: supcon, of: image, labels: caption}", "17:41: losses.sup.labels", ["a field of text", "labels"]),
    # shared parts
    ("temperature: 0.07", "temperature: losses.a.b", "17:57: losses.align.temperature", ["no `a` in `losses`"]),
    ("temperature: 0.07", "temperature: losses.align.temp", "17:57: losses.align.temperature", ["mean temperature?"]),
    ("temperature: 0.07", "temperature: encoders.image.width", "17:57: losses.align.temperature", ["a value"]),
    ("temperature: 0.07", "score: parts.lat", "17:51: losses.align.score", ["no `lat`", "did you mean late?"]),
    ("temperature: 0.07", "score: encoders.image", "17:51: losses.align.score", ["found an encoder", "a score"]),
    ("temperature: 0.07", "score: late.x", "17:51: losses.align.score", ["no path to a score"]),
    ("temperature: 0.07", "temperature: image.label", "17:57: losses.align.temperature", ["without `label`", "pooled"]),
    # stages
    ("data: train,", "data: tran,", "18:15: train.data", ["an entry of data", "did you mean train?"]),
    ("data: train,", "data: {use: shapes, sise: 1},", "18:29: train.data.sise", ["source shapes", "size?"]),
    ("data: train,", "data: {a: train, b: tset},", "18:29: train.data.b", ["no `tset` here", "mean test?"]),
    ("data: train,", "data: {a: {use: shapes, sise: 3}},", "18:33: train.data.a.sise", ["no field", "mean size?"]),
    ("data: train,", "data: {a: {data: train, batch_size: 0}},", "18:45: train.data.a.batch_size", ["at least 1"]),
    ("data: train,", "data: {a: {data: train, batch: 3}},", "18:33: train.data.a.batch",
     ["no field", "batch_size"]),
    ("data: train,", "data: {a: {data: train, sampler: episode}},", "18:42: train.data.a.sampler",
     ["unknown sampler", "'episodes'"]),
    ("use: score/maxsim", "use: encoder/prototype_vectors, count: 4, dim: 8, constrain: unit_row",
     "15:71: parts.late.constrain", ["unknown constraint 'unit_row'", "did you mean 'unit_rows'?"]),
    ("use: score/maxsim", "use: encoder/prototype_vectors, count: 4, dim: 8, constrain: {use: bounds}",
     "15:71: parts.late.constrain", ["give `min`, `max` or both"]),
    ("use: score/maxsim", "use: encoder/prototype_vectors, count: 4, dim: 8, constrain: [{use: bounds, max: a}]",
     "15:91: parts.late.constrain.0.max", ['found "a"', "a number"]),
    (SLOW, "slow: {use: ema, weights: image, momentum: 0.99, constrain: unit_rows}", "11:52: encoders.slow.constrain",
     ["`constrain` belongs to the encoder that has the weights"]),
    (SLOW, SLOW + "\n  p: {use: hard_pairs, of: [image, image]}", "12:6: encoders.p",
     ["the outputs would be image, image, match"]),
    (SLOW, SLOW + "\n  m: {use: mlp, of: image, dims: [8], rows: text}", "12:45: encoders.m.rows",
     ["found `text`, an encoder of vector", "an index output of a miner"]),
    (SLOW, SLOW + "\n  p: {use: hard_pairs, of: [image, text]}\n  m: {use: concat, of: [image, text], rows: [p.text]}",
     "13:45: encoders.m.rows", ["1 in `rows`, 2 in `of`", "one index for each input"]),
    (SLOW, SLOW + "\n  p: {use: hard_pairs, of: [image, text]}\n  q: {use: mlp, of: image, dims: [2], rows: p.image}\n"
     "  m: {use: concat, of: [q, image]}",
     "14:28: encoders.m.of.1", ["`image` has a row for each sample, and `q` one for each pair"]),
    (VIEW, "two: {of: image, copies: 2, apply: [flip], draws: ever}", "7:53: views.two.draws", ["training, always"]),
    (VIEW, "two: {of: [image, label], apply: [mixup], draws: always}", "7:8: views.two",
     ["draws: always goes by single rows, and mixup mixes"]),
    ("temperature: 0.07", "temperature: {use: adaptive, of: image}", "17:77: losses.align.temperature.of",
     ["at least 2 entries"]),
    ("temperature: 0.07", "temperature: {use: adaptive, of: [image, txt]}", "17:85: losses.align.temperature.of.1",
     ["no `txt` here", "did you mean text?"]),
    ("epochs: 1", "epochs: 1, schedule: {use: adaptive, of: [image, text]}", "18:43: train.schedule",
     ["a number of the batch, which is known to losses and encoders alone", "a number or a schedule"]),
    ("epochs: 1", "epochs: 1, updates: [a]", "18:42: train.updates", ["found a list of 1"]),
    ("epochs: 1", "epochs: 1, updates: {a: {loss: [align]}}", "18:47: train.updates.a.loss", ["mean losses?"]),
    ("epochs: 1", "epochs: 1, updates: {a: {losses: [algin]}}", "18:56: train.updates.a.losses.0",
     ["no loss `algin`", "did you mean align?"]),
    ("epochs: 1", "epochs: 1, updates: {a: {losses: []}}", "18:55: train.updates.a.losses", ["at least 1"]),
    ("epochs: 1", "epochs: 1, updates: {a: {losses: [align, align]}}", "18:63: train.updates.a.losses.1",
     ["stands twice"]),
    ("epochs: 1", "epochs: 1, updates: {a: {groups: [body]}}", "18:56: train.updates.a.groups.0",
     ["no group `body`", "the stage has no `groups`"]),
    ("epochs: 1", "epochs: 1, losses: [align], updates: {a: {losses: [align]}}", "18:41: train.losses",
     ["`losses` of the stage and of its update a both choose"]),
    ("epochs: 1", "epochs: 1, updates: {a: {every: 0}}", "18:54: train.updates.a.every", ["at least 1"]),
    ("epochs: 1", "epochs: 1, updates: {a: {reuse: b}, b: {}}", "18:54: train.updates.a.reuse",
     ["reuses the forward of `b`, which comes later", "the first update has none before it"]),
    ("epochs: 1", "epochs: 1, updates: {a: {}, b: {reuse: c}}", "18:61: train.updates.b.reuse",
     ["no update `c`", "there is a"]),
    ("epochs: 1", "epochs: 1, updates: {a: {every: 2}, b: {every: 3, reuse: a}}", "18:79: train.updates.b.reuse",
     ["runs every 2 steps, and b every 3", "a multiple"]),
    ("epochs: 1", "epochs: 1, updates: {a: {normalize: both}}", "18:58: train.updates.a.normalize",
     ["each", "joint"]),
    ("epochs: 1", "epochs: 1, updates: {a: {optimizer: {use: adamv}}}", "18:64: train.updates.a.optimizer.use",
     ["unknown optimizer", "'adam'"]),
    ("epochs: 1", "epochs: 1, groups: {i: {match: encoders.image}, t: {match: encoders.text}}, "
     "updates: {a: {groups: [i]}}", "18:73: train.groups.t", ["no update moves the group `t`"]),
    ("epochs: 1", "epochs: 1, processes: 2", "18:33: train.processes", ['no field "processes"']),
    ("epochs: 1", "epochs: 1, devices: [0]", "18:33: train.devices", ['no field "devices"']),
    ("use: vit, of: image,", "use: vit, of: image, passes: apart,", "9:40: encoders.image.passes", ["joint, separate"]),
    ("epochs: 1", "epochs: 1, refresh: {a: {}}", "18:43: train.refresh.a", ["has no stages", "write stages:"]),
    ("epochs: 1", "epochs: 1, start: retrieval", "18:40: train.start", ["a stage that gives a model", "train"]),
    ("epochs: 1", "epochs: 1, losses: [algn]", "18:42: train.losses.0", ["no loss `algn`", "align?"]),
    ("epochs: 1", "epochs: 1, losses: {algn: {weight: 2}}", "18:42: train.losses.algn", ["no `algn`", "align?"]),
    ("epochs: 1", "epochs: 1, losses: {align: null}", "18:8: train", ["no loss to minimize"]),
    ("epochs: 1", "epochs: 1, groups: {a: {match: encoders.imag.*}}", "18:53: train.groups.a.match", ["nothing"]),
    ("data: test,", "data: test, model: trian,", "20:50: eval.retrieval.model", ["no `trian`", "did you mean train?"]),
    ("data: test,", "data: test, model: retrieval,", "20:50: eval.retrieval.model", ["gives a model", "such as train"]),
    ("data: test,", "data: test, encoders: [image],", "20:53: eval.retrieval.encoders", ["named entries"]),
    ("data: test,", "data: test, encoders: {x: null},", "20:54: eval.retrieval.encoders.x", ["no `x`"]),
    ("test, of: [image, text]", "test, of: [train.image, train.txt]", "20:61: eval.retrieval.of.1", ["text?"]),
    (TRAIN, f"stages:\n  a: {{use: train, start: b, {TRAIN[8:]}\n  b: {{use: train, start: a, {TRAIN[8:]}",
     "19:3: stages.a", ["a circle of stages: a -> b -> a"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "place", "words"), BROKEN, ids=[case[1][:40] for case in BROKEN])
def test_a_mistake_gives_one_message(before: str, after: str, place: str, words: list[str]) -> None:
    assert before in BASE
    with pytest.raises(SpecError) as caught:
        load_text(BASE.replace(before, after, 1), "s.yaml", env={"N": "3"})
    (problem,) = caught.value.problems
    message = str(problem)
    assert message.startswith(f"s.yaml:{place}: "), message
    for word in words:
        assert word in message


def test_many_mistakes_are_told_at_once() -> None:
    text = BASE
    for before, after in (
        ("width: 32", "widht: 32"),
        ("txt", "txt"),
        ("size: 100", "size: many"),
        ("[image, text], t", "[image, txt], t"),
    ):
        text = text.replace(before, after, 1)
    with pytest.raises(SpecError) as caught:
        load_text(text, "s.yaml")
    assert [problem.mark.line for problem in caught.value.problems if problem.mark] == [5, 9, 17]


def test_a_mistake_in_an_override_an_extended_file_or_a_variable_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("width: 32", "width: $vars.dim", 1))
    main = tmp_path / "main.yaml"
    main.write_text("extends: base.yaml\nvars:\n  dim: wide\n")
    with pytest.raises(SpecError) as caught:
        load_spec(str(main), ["train.epoch=3", "losses.align.temperature=0"])
    messages = sorted(str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems)
    assert len(messages) == 3
    assert messages[0].startswith("--set losses.align.temperature=0: losses.align.temperature: out of range: found 0")
    assert "in place of base.yaml:17:57" in messages[0]
    assert "extended at main.yaml:1:10" in messages[0]
    assert messages[1].startswith("--set train.epoch=3: train.epoch: stage train has no field")
    assert messages[2].startswith('main.yaml:3:8: encoders.image.width: found "wide", expected a whole number')
    assert "used at base.yaml:9:39" in messages[2]


@pytest.mark.parametrize("name", ["imge", "zzz"])
def test_a_mistake_that_several_stages_share_is_told_once(name: str) -> None:
    more = BASE.replace("vit, of: image", f"vit, of: {name}").replace("data:\n", "data:\n  other: {use: digits}\n")
    with pytest.raises(SpecError) as caught:
        load_text(more + "  again: {use: geometry, data: other, of: [image, text]}\n")
    assert len(caught.value.problems) == 1


def test_what_no_stage_uses_is_checked_too() -> None:
    with pytest.raises(SpecError, match="no `nothing` here"):
        load_text(BASE.replace("encoders:\n", "encoders:\n  spare: {use: vit, of: nothing}\n"))


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("apply: [flip]", "apply: [parts.late]", "views.two.apply.0"),
        ("apply: [flip]", "apply: [{use: one_of, transforms: [parts.late, flip]}]", "views.two.apply.0.transforms.0"),
        ("optimizer: {use: adamw, lr: 1e-3}", "optimizer: parts.late", "train.optimizer"),
        ("batch_size: 32", "sampler: parts.late", "train.sampler"),
        ("of: caption, width: 32", "of: caption, width: 32, tokenizer: parts.late", "encoders.text.tokenizer"),
    ],
)
def test_a_path_stands_only_for_kinds_that_can_be_shared(old: str, new: str, place: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_text(BASE.replace(old, new, 1))
    (found,) = [problem for problem in refused.value.problems if "is a path" in problem.message]
    assert ".".join(map(str, found.path)) == place
    assert "write it here" in (found.hint or "")


@pytest.mark.parametrize(
    "losses",
    [
        "  b: {use: infonce, of: [text, image], temperature: losses.align.temperature}",
        "  b: {use: siglip, of: [text, image], temperature: losses.align.temperature, bias: losses.align.weight}",
        "  b: {use: infonce, of: [text, image], score: losses.late.score}\n"
        "  late: {use: infonce, of: [image, text], score: parts.late}",
    ],
)
def test_numbers_and_scores_of_a_loss_that_the_stage_does_not_select_are_shared(losses: str) -> None:
    text = BASE.replace("temperature: 0.07", "temperature: {use: learned, init: 0.07}")
    loaded = load_text(text.replace("\ntrain:", f"\n{losses}\ntrain:").replace("epochs: 1,", "epochs: 1, losses: [b],"))
    assert outlook(loaded)
    assert [stage.name for stage in build_plan(loaded)] == ["train", "retrieval"]
