"""A synthetic graph: authors, papers and venues with planted groups (`graphs`). All its fields are static."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import Field, Source, TensorType, numpy_generator


class Graphs(Source, name="graphs"):
    """A graph of authors, papers and venues in which authors of one field write together and publish alike.

    There is no sample axis. Authors are the rows of the axis `node`: `node.id`, `node.x` (features [features]: the mean
    of the field and noise), `node.label` (the field of study) and `node.papers` (1 where the author wrote the paper,
    [papers]). Papers and venues are nodes of other types, with axes of their own: `paper.id`, `paper.label`,
    `paper.venue` (its number); `venue.id`, `venue.label`. Meta-paths: `node.coauthors` (author, paper, author: how many
    papers each two wrote together, [authors]) and `node.venues` (author, paper, venue, paper, author: in how many ways
    each two meet at a venue, [authors]). Counts are symmetric, their diagonal is zero.
    """

    example: ClassVar[str] = "data: {graph: {use: graphs, authors: 300, groups: 4}}"

    authors: int = Field(300, ge=4, le=5000)
    papers: int = Field(900, ge=1, le=50_000)
    venues: int = Field(20, ge=2, le=1000)
    groups: int = Field(4, ge=2, le=20, description="fields of study")
    features: int = Field(16, ge=2)
    noise: float = Field(1.0, ge=0, description="standard deviation of features around the mean of their field")
    mixing: float = Field(0.15, ge=0, le=1, description="share of authors and venues of a paper from anywhere")
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    @model_validator(mode="after")
    def _enough(self) -> Graphs:
        if self.venues < self.groups or self.authors < 2 * self.groups:
            raise ValueError("each group needs a venue and two authors")
        return self

    def fields(self) -> Mapping[str, TensorType]:
        node = TensorType("vector", ("node",), (self.authors,))
        fields = tuple(f"field {number}" for number in range(self.groups))
        venues = tuple(f"venue-{number}" for number in range(self.venues))

        def label(axis: str, names: tuple[str, ...]) -> TensorType:
            return TensorType("label", (axis,), dtype="int64", names=names)

        return {
            "node.id": TensorType("id", ("node",)),
            "node.x": node.with_(size=(self.features,)),
            "node.label": label("node", fields),
            "node.papers": node.with_(size=(self.papers,)),
            "node.coauthors": node,
            "node.venues": node,
            "paper.id": TensorType("id", ("paper",)),
            "paper.label": label("paper", fields),
            "paper.venue": label("paper", venues),
            "venue.id": TensorType("id", ("venue",)),
            "venue.label": label("venue", fields),
        }

    def open(self) -> GraphReader:
        return GraphReader(self)


class GraphReader:
    """Has no samples; the graph is drawn once."""

    def __init__(self, graphs: Graphs) -> None:
        self.source = graphs

    def __len__(self) -> int:
        return 0

    def id(self, index: int) -> str:
        raise IndexError("a graph has nodes, no samples")

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        raise IndexError("a graph has nodes, no samples")

    def static(self) -> Mapping[str, Any]:
        import numpy as np

        graph = self.source
        generator = numpy_generator(graph.seed, "graphs")
        label = generator.permutation(np.arange(graph.authors) % graph.groups)
        venue_group = np.arange(graph.venues) % graph.groups
        means = generator.normal(size=(graph.groups, graph.features))
        x = means[label] + graph.noise * generator.normal(size=(graph.authors, graph.features))
        wrote = np.zeros((graph.authors, graph.papers), dtype=np.float32)
        shown = np.zeros((graph.papers, graph.venues), dtype=np.float32)
        paper_group = np.zeros(graph.papers, dtype=int)
        for paper in range(graph.papers):
            group = paper_group[paper] = int(generator.integers(graph.groups))
            own = np.flatnonzero(label == group)
            for _ in range(int(generator.integers(2, 4))):
                anywhere = generator.random() < graph.mixing
                wrote[generator.integers(graph.authors) if anywhere else generator.choice(own), paper] = 1
            fitting = np.flatnonzero(venue_group == group)
            anywhere = generator.random() < graph.mixing
            shown[paper, generator.integers(graph.venues) if anywhere else generator.choice(fitting)] = 1
        coauthors, at = wrote @ wrote.T, wrote @ shown
        venues = at @ at.T
        np.fill_diagonal(coauthors, 0)
        np.fill_diagonal(venues, 0)
        return {
            "node.id": [f"author-{number}" for number in range(graph.authors)],
            "node.x": x.astype(np.float32),
            "node.label": label.tolist(),
            "node.papers": wrote,
            "node.coauthors": coauthors,
            "node.venues": venues,
            "paper.id": [f"paper-{number}" for number in range(graph.papers)],
            "paper.label": paper_group.tolist(),
            "paper.venue": shown.argmax(1).tolist(),
            "venue.id": [f"venue-{number}" for number in range(graph.venues)],
            "venue.label": venue_group.tolist(),
        }
